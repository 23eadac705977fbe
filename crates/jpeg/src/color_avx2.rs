//! The color conversion of [`crate::color`] for 32 pixels at a time.
//!
//! Products are split so that they fit into 16 bits: 1.402 = 1 + 0.402, 1.772 = 2 - 0.228, 0.714 = 1 - 0.286. The
//! results are the same to the bit.

use std::arch::x86_64::*;

/// 0.402, 0.228, 0.28586 and 0.34414 times 2^16, rounded.
const F_0_402: i16 = 26_345;
const F_0_228: i16 = 14_942;
const F_0_286: i16 = 18_734;
const F_0_344: i16 = 22_554;

/// Pixels in one step.
const STEP: usize = 32;

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; STEP]) -> __m256i {
    let word = |k: usize| i64::from_le_bytes(bytes.as_chunks::<8>().0[k]);
    _mm256_setr_epi64x(word(0), word(1), word(2), word(3))
}

/// (2 * a * factor / 2^16 + 1) / 2, which is a * factor / 2^16 rounded.
#[inline]
#[target_feature(enable = "avx2")]
fn scaled(a: __m256i, factor: i16) -> __m256i {
    let product = _mm256_mulhi_epi16(_mm256_add_epi16(a, a), _mm256_set1_epi16(factor));
    _mm256_srai_epi16::<1>(_mm256_add_epi16(product, _mm256_set1_epi16(1)))
}

/// Red, green and blue of 16 pixels, before saturation. `cb` and `cr` have their center at 0.
#[inline]
#[target_feature(enable = "avx2")]
fn convert(y: __m256i, cb: __m256i, cr: __m256i) -> [__m256i; 3] {
    let r = _mm256_add_epi16(_mm256_add_epi16(y, cr), scaled(cr, F_0_402));
    let b = _mm256_add_epi16(_mm256_add_epi16(y, _mm256_add_epi16(cb, cb)), scaled(cb, -F_0_228));
    let factors = _mm256_set1_epi32(i32::from(-F_0_344) & 0xFFFF | i32::from(F_0_286) << 16);
    let half = _mm256_set1_epi32(1 << 15);
    let low = _mm256_add_epi32(_mm256_madd_epi16(_mm256_unpacklo_epi16(cb, cr), factors), half);
    let high = _mm256_add_epi32(_mm256_madd_epi16(_mm256_unpackhi_epi16(cb, cr), factors), half);
    let products = _mm256_packs_epi32(_mm256_srai_epi32::<16>(low), _mm256_srai_epi32::<16>(high));
    let g = _mm256_add_epi16(y, _mm256_sub_epi16(products, cr));
    [r, g, b]
}

/// For each 16 bytes of three that hold RGB: where byte `i` comes from in 16 samples of channel `channel`; 0x80
/// elsewhere.
const fn pattern(third: usize, channel: usize) -> [i8; 16] {
    let mut pattern = [-128; 16];
    let mut i = 0;
    while i < 16 {
        let at = third * 16 + i;
        if at % 3 == channel {
            pattern[i] = (at / 3) as i8;
        }
        i += 1;
    }
    pattern
}

const PATTERNS: [[[i8; 16]; 3]; 3] = [
    [pattern(0, 0), pattern(0, 1), pattern(0, 2)],
    [pattern(1, 0), pattern(1, 1), pattern(1, 2)],
    [pattern(2, 0), pattern(2, 1), pattern(2, 2)],
];

#[inline]
#[target_feature(enable = "avx2")]
fn shuffled(a: __m256i, pattern: &[i8; 16]) -> __m256i {
    let word = |k: usize| i64::from_le_bytes(pattern.as_chunks::<8>().0[k].map(|b| b as u8));
    _mm256_shuffle_epi8(a, _mm256_setr_epi64x(word(0), word(1), word(0), word(1)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(a: __m256i, out: &mut [u8], at: [usize; 2]) {
    let words = [
        _mm256_extract_epi64::<0>(a),
        _mm256_extract_epi64::<1>(a),
        _mm256_extract_epi64::<2>(a),
        _mm256_extract_epi64::<3>(a),
    ];
    for (half, at) in words.as_chunks::<2>().0.iter().zip(at) {
        let out = &mut out[at..][..16];
        out[..8].copy_from_slice(&half[0].to_le_bytes());
        out[8..].copy_from_slice(&half[1].to_le_bytes());
    }
}

/// Converts the first pixels of a row, a multiple of 32; returns their number.
#[target_feature(enable = "avx2")]
pub(crate) fn ycc_row(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) -> usize {
    let zero = _mm256_setzero_si256();
    let center = _mm256_set1_epi16(128);
    let (y, cb, cr) = (y.as_chunks::<STEP>().0, cb.as_chunks::<STEP>().0, cr.as_chunks::<STEP>().0);
    let out = out.as_chunks_mut::<{ 3 * STEP }>().0;
    let mut pixels = 0;
    for (((y, cb), cr), out) in y.iter().zip(cb).zip(cr).zip(out) {
        let (y, cb, cr) = (load(y), load(cb), load(cr));
        let low = convert(
            _mm256_unpacklo_epi8(y, zero),
            _mm256_sub_epi16(_mm256_unpacklo_epi8(cb, zero), center),
            _mm256_sub_epi16(_mm256_unpacklo_epi8(cr, zero), center),
        );
        let high = convert(
            _mm256_unpackhi_epi8(y, zero),
            _mm256_sub_epi16(_mm256_unpackhi_epi8(cb, zero), center),
            _mm256_sub_epi16(_mm256_unpackhi_epi8(cr, zero), center),
        );
        let [r, g, b] = [
            _mm256_packus_epi16(low[0], high[0]),
            _mm256_packus_epi16(low[1], high[1]),
            _mm256_packus_epi16(low[2], high[2]),
        ];
        for (third, patterns) in PATTERNS.iter().enumerate() {
            let rg = _mm256_or_si256(shuffled(r, &patterns[0]), shuffled(g, &patterns[1]));
            let rgb = _mm256_or_si256(rg, shuffled(b, &patterns[2]));
            store(rgb, out, [16 * third, 48 + 16 * third]);
        }
        pixels += STEP;
    }
    pixels
}
