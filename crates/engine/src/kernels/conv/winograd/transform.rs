//! Winograd's transforms of tiles, for F(2x2,3x3), F(3x3,3x3) and F(4x4,3x3).
//!
//! The interpolation points are 0, 1, -1, 2 (, -2) and infinity.

use crate::kernels::epilogue::{Rectifier, rectify};
use crate::simd::vector::{Simd, SimdFn};

/// An input tile of `(M + 2)^2` pixels of one channel block, which is transformed to `(M + 2)^2` positions.
pub(crate) struct InputTile {
    /// Top left pixel.
    pub input: *const f32,
    pub row_step: usize,
    /// Position 0.
    pub output: *mut f32,
    /// Floats from one position to the next.
    pub position_step: usize,
}

/// An output tile of `M^2` pixels of one channel block.
pub(crate) struct OutputTile {
    /// Position 0 of the products.
    pub products: *const f32,
    pub position_step: usize,
    pub bias: *const f32,
    pub slope: *const f32,
    pub limit: f32,
    /// Values to add before the activation, or null.
    pub residual: *const f32,
    pub residual_row: usize,
    pub residual_step: usize,
    pub output: *mut f32,
    pub output_row: usize,
    pub output_step: usize,
    /// Rows and columns inside the map.
    pub rows: usize,
    pub columns: usize,
}

/// Weights to transform at run time.
pub(crate) struct WeightRun {
    /// The first tap.
    pub weights: *const f32,
    /// Floats from one tap to the next.
    pub tap_step: usize,
    /// Number of consecutive vectors; each is transformed separately.
    pub vectors: usize,
    pub output: *mut f32,
    pub position_step: usize,
}

/// Factors of the rows of `G`. [`WeightKernel`] omits them, and the smaller number of inputs is multiplied by them
/// instead.
const fn scales<const T: usize>() -> [f32; T] {
    let all: &[f32] = match T {
        4 => &[1.0, 0.5, 0.5, 1.0],
        5 => &[0.5, -0.5, -1.0 / 6.0, 1.0 / 6.0, 1.0],
        _ => &[0.25, -1.0 / 6.0, -1.0 / 6.0, 1.0 / 24.0, 1.0 / 24.0, 1.0],
    };
    let mut scales = [0.0; T];
    let mut i = 0;
    while i < T {
        scales[i] = all[i];
        i += 1;
    }
    scales
}

/// `B^T d` of one column or row.
#[inline(always)]
unsafe fn input_line<S: Simd, const T: usize>(d: [S::V; T]) -> [S::V; T] {
    // SAFETY: arithmetic only; the caller guarantees the instruction set.
    unsafe {
        let s = |v: f32| S::splat(v);
        let mut out = d;
        match T {
            4 => {
                out[0] = S::sub(d[0], d[2]);
                out[1] = S::add(d[1], d[2]);
                out[2] = S::sub(d[2], d[1]);
                out[3] = S::sub(d[1], d[3]);
            }
            5 => {
                // 2 -1 -2 1 0 | 0 -2 -1 1 0 | 0 2 -3 1 0 | 0 -1 0 1 0 | 0 2 -1 -2 1
                let d31 = S::sub(d[3], d[1]);
                out[0] = S::fma(s(2.0), S::sub(d[0], d[2]), d31);
                out[1] = S::fma(s(-2.0), d[1], S::sub(d[3], d[2]));
                out[2] = S::fma(s(2.0), d[1], S::fma(s(-3.0), d[2], d[3]));
                out[3] = d31;
                out[4] = S::fma(s(-2.0), d31, S::sub(d[4], d[2]));
            }
            _ => {
                let (a, b) = (S::fma(s(-4.0), d[2], d[4]), S::fma(s(-4.0), d[1], d[3]));
                let (c, e) = (S::sub(d[4], d[2]), S::mul(s(2.0), S::sub(d[3], d[1])));
                out[0] = S::fma(s(4.0), d[0], S::fma(s(-5.0), d[2], d[4]));
                out[1] = S::add(a, b);
                out[2] = S::sub(a, b);
                out[3] = S::add(c, e);
                out[4] = S::sub(c, e);
                out[5] = S::fma(s(4.0), d[1], S::fma(s(-5.0), d[3], d[5]));
            }
        }
        out
    }
}

/// `A^T m` of one column or row.
#[inline(always)]
unsafe fn output_line<S: Simd, const T: usize, const M: usize>(m: [S::V; T]) -> [S::V; M] {
    // SAFETY: as above.
    unsafe {
        let s = |v: f32| S::splat(v);
        let mut out = [S::zero(); M];
        match M {
            2 => {
                out[0] = S::add(m[0], S::add(m[1], m[2]));
                out[1] = S::sub(S::sub(m[1], m[2]), m[3]);
            }
            3 => {
                let (plus, minus) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
                out[0] = S::add(S::add(m[0], plus), m[3]);
                out[1] = S::fma(s(2.0), m[3], minus);
                out[2] = S::add(S::fma(s(4.0), m[3], plus), m[4]);
            }
            _ => {
                let (p12, m12) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
                let (p34, m34) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
                out[0] = S::add(m[0], S::add(p12, p34));
                out[1] = S::fma(s(2.0), m34, m12);
                out[2] = S::fma(s(4.0), p34, p12);
                out[3] = S::add(S::fma(s(8.0), m34, m12), m[5]);
            }
        }
        out
    }
}

/// Transforms an input tile to `T * T` positions.
pub(in crate::kernels) struct InputKernel<const T: usize, const SCALED: bool>;

impl<const T: usize, const SCALED: bool> SimdFn for InputKernel<T, SCALED> {
    type Args<'a> = &'a InputTile;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, and the tile's pointers are valid. `T` is `M + 2`.
    #[inline(always)]
    unsafe fn run<S: Simd>(t: &InputTile) {
        // SAFETY: reads and writes stay within the memory whose validity the caller guarantees.
        unsafe {
            let scales = const { scales::<T>() };
            let mut half = [[S::zero(); T]; T];
            for x in 0..T {
                let column: [S::V; T] = std::array::from_fn(|y| S::load(t.input.add(y * t.row_step + x * S::LANES)));
                for (row, value) in half.iter_mut().zip(input_line::<S, T>(column)) {
                    row[x] = value;
                }
            }
            for (y, row) in half.iter().enumerate() {
                for (x, v) in input_line::<S, T>(*row).into_iter().enumerate() {
                    let v = if SCALED { S::mul(v, S::splat(scales[y] * scales[x])) } else { v };
                    S::store(t.output.add((y * T + x) * t.position_step), v);
                }
            }
        }
    }
}

/// `G g` of one column or row, without the [`scales`].
#[inline(always)]
unsafe fn weight_line<S: Simd, const T: usize>(g: [S::V; 3]) -> [S::V; T] {
    // SAFETY: arithmetic only; the caller guarantees the instruction set.
    unsafe {
        let mut out = [g[0]; T];
        let ends = S::add(g[0], g[2]);
        out[1] = S::add(ends, g[1]);
        out[2] = S::sub(ends, g[1]);
        if T > 4 {
            let ends = S::fma(S::splat(4.0), g[2], g[0]);
            out[3] = S::fma(S::splat(2.0), g[1], ends);
            if T > 5 {
                out[4] = S::fma(S::splat(-2.0), g[1], ends);
            }
        }
        out[T - 1] = g[2];
        out
    }
}

/// Transforms weights to `T * T` positions.
pub(in crate::kernels) struct WeightKernel<const T: usize>;

impl<const T: usize> SimdFn for WeightKernel<T> {
    type Args<'a> = &'a WeightRun;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, and the pointers of the run are valid.
    #[inline(always)]
    unsafe fn run<S: Simd>(line: &WeightRun) {
        // SAFETY: reads and writes stay within the memory whose validity the caller guarantees.
        unsafe {
            for at in (0..line.vectors).map(|i| i * S::LANES) {
                let mut columns = [[S::zero(); T]; 3];
                for (x, column) in columns.iter_mut().enumerate() {
                    let first = line.weights.add(x * line.tap_step + at);
                    let step = 3 * line.tap_step;
                    *column =
                        weight_line::<S, T>([S::load(first), S::load(first.add(step)), S::load(first.add(2 * step))]);
                }
                #[allow(clippy::needless_range_loop, reason = "indexes three arrays")]
                for y in 0..T {
                    let row = weight_line::<S, T>([columns[0][y], columns[1][y], columns[2][y]]);
                    for (x, v) in row.into_iter().enumerate() {
                        S::store(line.output.add((y * T + x) * line.position_step + at), v);
                    }
                }
            }
        }
    }
}

/// Transforms `T * T` products to an output tile of `M * M` pixels.
pub(in crate::kernels) struct OutputKernel<const T: usize, const M: usize>;

impl<const T: usize, const M: usize> SimdFn for OutputKernel<T, M> {
    type Args<'a> = &'a OutputTile;
    type Output = ();

    /// # Safety
    /// The CPU has `S`, and the tile's pointers are valid. `T` is `M + 2`.
    #[inline(always)]
    unsafe fn run<S: Simd>(t: &OutputTile) {
        // SAFETY: as above.
        unsafe {
            let mut half = [[S::zero(); T]; M];
            for x in 0..T {
                let column = std::array::from_fn(|y| S::load(t.products.add((y * T + x) * t.position_step)));
                for (row, value) in half.iter_mut().zip(output_line::<S, T, M>(column)) {
                    row[x] = value;
                }
            }
            let (bias, slope, limit) = (S::load(t.bias), S::load(t.slope), S::splat(t.limit));
            for (y, row) in half.iter().enumerate().take(t.rows) {
                let values: [S::V; M] = output_line::<S, T, M>(*row);
                for (x, &value) in values.iter().enumerate().take(t.columns) {
                    let mut v = S::add(value, bias);
                    if !t.residual.is_null() {
                        v = S::add(v, S::load(t.residual.add(y * t.residual_row + x * t.residual_step)));
                    }
                    v = rectify::<S, { Rectifier::CLIPPED_PRELU }>(v, slope, limit);
                    S::store(t.output.add(y * t.output_row + x * t.output_step), v);
                }
            }
        }
    }
}
