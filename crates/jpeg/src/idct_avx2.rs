//! The inverse DCT of [`crate::idct`] in vectors of 8 columns.

use std::arch::x86_64::*;

use crate::idct::*;
use crate::tables::QuantTable;

/// 8 lanes: a factor for even and one for odd lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn pair(a: i16, b: i16) -> __m128i {
    _mm_set1_epi32(i32::from(a) & 0xFFFF | i32::from(b) << 16)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(row: &[i16; 8]) -> __m128i {
    _mm_setr_epi16(row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])
}

/// Values of 8 columns in 32 bits: columns 0 to 3, columns 4 to 7.
type Wide = (__m128i, __m128i);

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Wide, b: Wide) -> Wide {
    (_mm_add_epi32(a.0, b.0), _mm_add_epi32(a.1, b.1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sub(a: Wide, b: Wide) -> Wide {
    (_mm_sub_epi32(a.0, b.0), _mm_sub_epi32(a.1, b.1))
}

/// `a` and `b` side by side, for products.
#[inline]
#[target_feature(enable = "avx2")]
fn zip(a: __m128i, b: __m128i) -> Wide {
    (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b))
}

/// a * fa + b * fb of zipped values.
#[inline]
#[target_feature(enable = "avx2")]
fn products(zipped: Wide, fa: i16, fb: i16) -> Wide {
    let factors = pair(fa, fb);
    (_mm_madd_epi16(zipped.0, factors), _mm_madd_epi16(zipped.1, factors))
}

/// Times 2^13, in 32 bits, plus the rounding of the result.
#[inline]
#[target_feature(enable = "avx2")]
fn scaled<const SHIFT: i32>(a: __m128i) -> Wide {
    let wide = zip(_mm_setzero_si128(), a);
    let round = _mm_set1_epi32(1 << (SHIFT - 1));
    add((_mm_srai_epi32::<{ 16 - CONST_BITS }>(wide.0), _mm_srai_epi32::<{ 16 - CONST_BITS }>(wide.1)), (round, round))
}

#[inline]
#[target_feature(enable = "avx2")]
fn narrow<const SHIFT: i32>(a: Wide) -> __m128i {
    _mm_packs_epi32(_mm_srai_epi32::<SHIFT>(a.0), _mm_srai_epi32::<SHIFT>(a.1))
}

/// One dimension on 8 columns.
#[inline]
#[target_feature(enable = "avx2")]
fn pass<const SHIFT: i32>(x: [__m128i; 8]) -> [__m128i; 8] {
    let z26 = zip(x[2], x[6]);
    let even2 = products(z26, F_0_541, F_0_541 - F_1_847);
    let even3 = products(z26, F_0_541 + F_0_765, F_0_541);
    let even0 = scaled::<SHIFT>(_mm_add_epi16(x[0], x[4]));
    let even1 = scaled::<SHIFT>(_mm_sub_epi16(x[0], x[4]));
    let e = [add(even0, even3), add(even1, even2), sub(even1, even2), sub(even0, even3)];

    let z34 = zip(_mm_add_epi16(x[7], x[3]), _mm_add_epi16(x[5], x[1]));
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
fn zip32(a: __m128i, b: __m128i) -> Wide {
    (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b))
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose(x: [__m128i; 8]) -> [__m128i; 8] {
    let a: [Wide; 4] = [zip(x[0], x[1]), zip(x[2], x[3]), zip(x[4], x[5]), zip(x[6], x[7])];
    let (b0, b1) = zip32(a[0].0, a[1].0);
    let (b2, b3) = zip32(a[0].1, a[1].1);
    let (b4, b5) = zip32(a[2].0, a[3].0);
    let (b6, b7) = zip32(a[2].1, a[3].1);
    [
        _mm_unpacklo_epi64(b0, b4),
        _mm_unpackhi_epi64(b0, b4),
        _mm_unpacklo_epi64(b1, b5),
        _mm_unpackhi_epi64(b1, b5),
        _mm_unpacklo_epi64(b2, b6),
        _mm_unpackhi_epi64(b2, b6),
        _mm_unpacklo_epi64(b3, b7),
        _mm_unpackhi_epi64(b3, b7),
    ]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn idct(block: &Block, quant: &QuantTable, out: &mut [u8], stride: usize) {
    let block = block.as_chunks::<8>().0;
    let quant = quant.as_chunks::<8>().0;
    let mut x = [_mm_setzero_si128(); 8];
    let mut any = x[0];
    for k in 0..8 {
        let raw = load(&block[k]);
        x[k] = _mm_mullo_epi16(raw, load(&quant[k]));
        any = if k == 0 { any } else { _mm_or_si128(any, raw) };
    }
    let between = if _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) == 0xFFFF {
        [_mm_slli_epi16::<PASS1_BITS>(x[0]); 8]
    } else {
        pass::<PASS1_SHIFT>(x)
    };
    let rows = transpose(pass::<PASS2_SHIFT>(transpose(between)));
    let center = _mm_set1_epi8(-128);
    for k in 0..4 {
        let two = _mm_xor_si128(_mm_packs_epi16(rows[2 * k], rows[2 * k + 1]), center);
        let low = _mm_cvtsi128_si64(two).to_le_bytes();
        let high = _mm_cvtsi128_si64(_mm_unpackhi_epi64(two, two)).to_le_bytes();
        out[2 * k * stride..][..8].copy_from_slice(&low);
        out[(2 * k + 1) * stride..][..8].copy_from_slice(&high);
    }
}
