//! The trait of vector operations, which all instruction sets implement, and the trait of functions that are generic
//! over it.

/// 1.5 * 2^23. The sum with a small float is rounded to an integer, which is in the low bits of the sum.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Vector operations of one instruction set. Kernels are written once, generic over this trait.
///
/// All functions are `unsafe`: the CPU must have the instruction set, see [`Isa::detect`](crate::simd::Isa::detect),
/// and pointers must be valid for `LANES` floats. No alignment is required.
pub(crate) trait Simd: Copy + 'static {
    /// A vector of [`Simd::LANES`] floats.
    type V: Copy;
    /// Number of floats of a vector.
    const LANES: usize;
    /// Maximum number of pixels of a tile of one channel block. The sums, weights and inputs of a tile fit in the
    /// registers.
    const PIXELS_1: usize;
    /// Maximum number of pixels of a tile of two channel blocks.
    const PIXELS_2: usize;

    /// Calls `F`, compiled with the target features of this instruction set.
    ///
    /// # Safety
    /// The CPU has the instruction set, and the arguments are valid for `F`.
    unsafe fn call<F: SimdFn>(args: F::Args<'_>) -> F::Output;

    /// Zeros.
    unsafe fn zero() -> Self::V;
    /// `value` in all lanes.
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a * b + c`, fused if the instruction set has a fused instruction.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// The larger values; NaN handling differs between instruction sets.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller values; NaN handling differs between instruction sets.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * 2^n` for the integer `n` from -126 to 127 in the low bits of `shifted`, which is `n` plus [`ROUND`].
    unsafe fn scale(a: Self::V, shifted: Self::V) -> Self::V;
    /// The index of lane `lane` for [`Simd::permute`]. An index with all bits set selects no lane.
    fn lane_index(lane: usize) -> u32;
    /// In each lane, the lane of `from` that `index` selects, or zero. Bits are copied unchanged.
    unsafe fn permute(from: Self::V, index: Self::V) -> Self::V;
    /// Bitwise or.
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V;
    /// The two floats at `from`, repeated over the vector. This function and [`Simd::sum_pairs`] exist for vectors that
    /// [support half blocks](crate::layout::pack::supports_half_blocks).
    #[inline(always)]
    unsafe fn splat_pair(_from: *const f32) -> Self::V {
        unreachable!("no half blocks with these vectors")
    }
    /// The sums of neighboring lanes in the first half of the lanes, zeros in the second half.
    #[inline(always)]
    unsafe fn sum_pairs(_pairs: Self::V) -> Self::V {
        unreachable!("no half blocks with these vectors")
    }
    /// Whether [`Simd::prefetch`] and [`Simd::prefetch_l2`] have an effect.
    const PREFETCHES: bool = false;
    /// Hints that the cache line at `from` is needed soon; any address is allowed.
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
    /// Hints that the cache line at `from` is needed later, in the second-level cache; any address is allowed.
    #[inline(always)]
    unsafe fn prefetch_l2(_from: *const f32) {}
}

/// A function that is written once for all instruction sets. [`Simd::call`] is the compiled function.
pub(crate) trait SimdFn {
    /// Arguments: a reference to a struct, or numbers.
    type Args<'a>;
    type Output;

    /// The body. It and every generic function that it calls must be `#[inline(always)]`: only code that is inlined
    /// into [`Simd::call`] is compiled with the target features.
    ///
    /// # Safety
    /// The CPU has `S`, and the arguments are valid.
    unsafe fn run<S: Simd>(args: Self::Args<'_>) -> Self::Output;
}

/// Adds the target features of an x86 instruction set to a function. No other place lists them.
#[doc(hidden)]
#[macro_export]
macro_rules! compiled_for {
    (Avx512, $($function:tt)*) => {
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        $($function)*
    };
    (Avx2, $($function:tt)*) => {
        #[target_feature(enable = "avx2,fma")]
        $($function)*
    };
}
