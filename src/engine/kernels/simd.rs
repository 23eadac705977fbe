//! The small trait behind which the instruction sets hide.

/// Vector operations of one instruction set. Kernels are written once, generic over this.
///
/// All functions are `unsafe` for one reason: they may only run on a CPU that has the instruction set, which
/// [`Isa::detect`](super::Isa::detect) establishes, and pointers must be valid for `LANES` floats. No alignment is required.
pub(super) trait Simd: Copy + 'static {
    /// A vector of [`Simd::LANES`] floats.
    type V: Copy;
    const LANES: usize;
    /// Pixels times one channel block that the registers hold beside weights and input.
    const PIXELS_1: usize;
    /// Pixels times two channel blocks.
    const PIXELS_2: usize;

    unsafe fn zero() -> Self::V;
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a * b + c`, fused where the CPU can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Hints that the cache line at `from` is needed soon; any address is allowed.
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
}
