//! The inverse DCT of [`crate::idct`] for two blocks at once: one in each half of a vector.

use std::arch::x86_64::*;

use crate::idct::*;
use crate::tables::QuantTable;

/// A factor for even and one for odd lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(a: i16, b: i16) -> __m256i {
    _mm256_set1_epi32(i32::from(a) & 0xFFFF | i32::from(b) << 16)
}

/// Row `k` of two blocks.
#[inline]
#[target_feature(enable = "avx2")]
fn load(a: &[i16; 64], b: &[i16; 64], k: usize) -> __m256i {
    let half = |block: &[i16; 64]| {
        let row = &block.as_chunks::<8>().0[k];
        _mm_setr_epi16(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])
    };
    _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(half(a)), half(b))
}

/// Values of 8 columns in 32 bits: columns 0 to 3, columns 4 to 7.
type Wide = (__m256i, __m256i);

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Wide, b: Wide) -> Wide {
    (_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sub(a: Wide, b: Wide) -> Wide {
    (_mm256_sub_epi32(a.0, b.0), _mm256_sub_epi32(a.1, b.1))
}

/// `a` and `b` side by side, for products.
#[inline]
#[target_feature(enable = "avx2")]
fn zip(a: __m256i, b: __m256i) -> Wide {
    (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b))
}

/// a * fa + b * fb of zipped values.
#[inline]
#[target_feature(enable = "avx2")]
fn products(zipped: Wide, fa: i16, fb: i16) -> Wide {
    let factors = pair(fa, fb);
    (_mm256_madd_epi16(zipped.0, factors), _mm256_madd_epi16(zipped.1, factors))
}

/// Times 2^13, in 32 bits, plus the rounding of the result.
#[inline]
#[target_feature(enable = "avx2")]
fn scaled<const SHIFT: i32>(a: __m256i) -> Wide {
    let wide = zip(_mm256_setzero_si256(), a);
    let round = _mm256_set1_epi32(1 << (SHIFT - 1));
    add(
        (_mm256_srai_epi32::<{ 16 - CONST_BITS }>(wide.0), _mm256_srai_epi32::<{ 16 - CONST_BITS }>(wide.1)),
        (round, round),
    )
}

#[inline]
#[target_feature(enable = "avx2")]
fn narrow<const SHIFT: i32>(a: Wide) -> __m256i {
    _mm256_packs_epi32(_mm256_srai_epi32::<SHIFT>(a.0), _mm256_srai_epi32::<SHIFT>(a.1))
}

/// One dimension on 8 columns.
#[inline]
#[target_feature(enable = "avx2")]
fn pass<const SHIFT: i32>(x: [__m256i; 8]) -> [__m256i; 8] {
    let z26 = zip(x[2], x[6]);
    let even2 = products(z26, F_0_541, F_0_541 - F_1_847);
    let even3 = products(z26, F_0_541 + F_0_765, F_0_541);
    let even0 = scaled::<SHIFT>(_mm256_add_epi16(x[0], x[4]));
    let even1 = scaled::<SHIFT>(_mm256_sub_epi16(x[0], x[4]));
    let e = [add(even0, even3), add(even1, even2), sub(even1, even2), sub(even0, even3)];

    let z34 = zip(_mm256_add_epi16(x[7], x[3]), _mm256_add_epi16(x[5], x[1]));
    let odd3 = products(z34, F_1_175 - F_1_961, F_1_175);
    let odd4 = products(z34, F_1_175, F_1_175 - F_0_390);
    let z71 = zip(x[7], x[1]);
    let z53 = zip(x[5], x[3]);
    let o = [
        add(products(z71, -F_0_899, F_1_501 - F_0_899), odd4),
        add(products(z53, -F_2_562, F_3_072 - F_2_562), odd3),
        add(products(z53, F_2_053 - F_2_562, -F_2_562), odd4),
        add(products(z71, F_0_298 - F_0_899, -F_0_899), odd3),
    ];
    [
        narrow::<SHIFT>(add(e[0], o[0])),
        narrow::<SHIFT>(add(e[1], o[1])),
        narrow::<SHIFT>(add(e[2], o[2])),
        narrow::<SHIFT>(add(e[3], o[3])),
        narrow::<SHIFT>(sub(e[3], o[3])),
        narrow::<SHIFT>(sub(e[2], o[2])),
        narrow::<SHIFT>(sub(e[1], o[1])),
        narrow::<SHIFT>(sub(e[0], o[0])),
    ]
}

/// As [`zip`], for pairs of lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn zip32(a: __m256i, b: __m256i) -> Wide {
    (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose(x: [__m256i; 8]) -> [__m256i; 8] {
    let a: [Wide; 4] = [zip(x[0], x[1]), zip(x[2], x[3]), zip(x[4], x[5]), zip(x[6], x[7])];
    let (b0, b1) = zip32(a[0].0, a[1].0);
    let (b2, b3) = zip32(a[0].1, a[1].1);
    let (b4, b5) = zip32(a[2].0, a[3].0);
    let (b6, b7) = zip32(a[2].1, a[3].1);
    [
        _mm256_unpacklo_epi64(b0, b4),
        _mm256_unpackhi_epi64(b0, b4),
        _mm256_unpacklo_epi64(b1, b5),
        _mm256_unpackhi_epi64(b1, b5),
        _mm256_unpacklo_epi64(b2, b6),
        _mm256_unpackhi_epi64(b2, b6),
        _mm256_unpacklo_epi64(b3, b7),
        _mm256_unpackhi_epi64(b3, b7),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn idct_pair(blocks: [&Block; 2], quant: [&QuantTable; 2]) -> [Samples; 2] {
    let zero = _mm256_setzero_si256();
    let mut x = [zero; 8];
    let mut any = zero;
    for (k, x) in x.iter_mut().enumerate() {
        let raw = load(blocks[0], blocks[1], k);
        *x = _mm256_mullo_epi16(raw, load(quant[0], quant[1], k));
        any = if k == 0 { any } else { _mm256_or_si256(any, raw) };
    }
    let mut between = pass::<PASS1_SHIFT>(x);
    // A block with nothing but means of columns does not saturate but wraps.
    let zeros = _mm256_movemask_epi8(_mm256_cmpeq_epi8(any, zero)) as u32;
    if zeros as u16 == u16::MAX || zeros >> 16 == 0xFFFF {
        let wrapped = _mm256_slli_epi16::<PASS1_BITS>(x[0]);
        let [low, high] = [zeros as u16 == u16::MAX, zeros >> 16 == 0xFFFF].map(|flat| if flat { -1 } else { 0 });
        let flat = _mm256_setr_epi64x(low, low, high, high);
        for row in &mut between {
            *row = _mm256_blendv_epi8(*row, wrapped, flat);
        }
    }
    let rows = transpose(pass::<PASS2_SHIFT>(transpose(between)));
    let center = _mm256_set1_epi8(-128);
    let mut samples = [[[0; 8]; 8]; 2];
    for k in 0..4 {
        let two = _mm256_xor_si256(_mm256_packs_epi16(rows[2 * k], rows[2 * k + 1]), center);
        samples[0][2 * k] = _mm256_extract_epi64::<0>(two).to_le_bytes();
        samples[0][2 * k + 1] = _mm256_extract_epi64::<1>(two).to_le_bytes();
        samples[1][2 * k] = _mm256_extract_epi64::<2>(two).to_le_bytes();
        samples[1][2 * k + 1] = _mm256_extract_epi64::<3>(two).to_le_bytes();
    }
    samples
}
