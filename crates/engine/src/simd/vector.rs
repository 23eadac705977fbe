//! The small trait behind which the instruction sets hide.

/// 1.5 * 2^23: adding it rounds a small float to an integer and leaves that in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Vector operations of one instruction set. Kernels are written once, generic over this.
///
/// All functions are `unsafe` for one reason: they may only run on a CPU that has the instruction set, which
/// [`Isa::detect`](crate::kernels::isa::Isa::detect) establishes, and pointers must be valid for `LANES` floats. No alignment is required.
pub(crate) trait Simd: Copy + 'static {
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
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * 2^n` for the integer `n` from -126 to 127 in the low bits of `shifted`, which is `n` plus [`ROUND`].
    unsafe fn scale(a: Self::V, shifted: Self::V) -> Self::V;
    /// What [`Simd::choose`] takes for lane `lane`; all bits set mean none.
    fn lane_index(lane: usize) -> u32;
    /// In each lane the lane of `from` that `index` names there, or zero for none. Only bits are moved, no numbers.
    unsafe fn choose(from: Self::V, index: Self::V) -> Self::V;
    /// The bits of both.
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V;
    /// The two floats at `from`, over and over. This and [`Simd::fold`] are for vectors that are [`halved`](crate::layout::pack::halved).
    #[inline(always)]
    unsafe fn splat_pair(_from: *const f32) -> Self::V {
        unreachable!("no half blocks with these vectors")
    }
    /// In the first half of the lanes the sums of two neighbouring ones, and zeros in the others.
    #[inline(always)]
    unsafe fn fold(_pairs: Self::V) -> Self::V {
        unreachable!("no half blocks with these vectors")
    }
    /// Whether [`Simd::prefetch`] and [`Simd::prefetch_far`] do anything.
    const PREFETCHES: bool = false;
    /// Hints that the cache line at `from` is needed soon; any address is allowed.
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
    /// The same for later: into the second-level cache.
    #[inline(always)]
    unsafe fn prefetch_far(_from: *const f32) {}
}
