//! The functions that are compiled for each instruction set, as a table of function pointers.

use std::marker::PhantomData;

use crate::kernels::activation::{SmoothKernel, SmoothRow};
use crate::kernels::conv::depthwise::{DepthwiseKernel, DepthwiseRow};
use crate::kernels::conv::winograd::transform::{
    InputKernel, InputTile, OutputKernel, OutputTile, WeightKernel, WeightRun,
};
use crate::kernels::tile::{HalfTileKernel, PixelStep, TileFn, TileKernel};
use crate::layout::pack::{GroupWidth, supports_half_blocks};
use crate::simd::Isa;
use crate::simd::vector::{Simd, SimdFn};

/// The kernels of one instruction set, ready to call.
pub(crate) struct Kernels {
    /// f32 lanes of a vector.
    pub lanes: usize,
    /// Maximum number of pixels of a tile of one channel block and of two.
    max_pixels: [usize; 2],
    /// The tile kernel for (pixels, width, residual, step).
    pub tile: fn(usize, GroupWidth, bool, PixelStep) -> TileFn,
    /// Computes a row of a depthwise convolution.
    pub depthwise: unsafe fn(&DepthwiseRow),
    /// Winograd's input transforms for output tiles of 2, 3 and 4.
    pub input: [unsafe fn(&InputTile); 3],
    /// Input transforms for weights from [`Kernels::weights`].
    pub input_scaled: [unsafe fn(&InputTile); 3],
    /// Winograd's weight transforms.
    pub weights: [unsafe fn(&WeightRun); 3],
    /// Winograd's output transforms.
    pub output: [unsafe fn(&OutputTile); 3],
    /// Applies a smooth activation to a row.
    pub smooth: unsafe fn(&SmoothRow),
}

impl Kernels {
    /// Maximum number of pixels of a tile of this width.
    pub fn max_pixels(&self, width: GroupWidth) -> usize {
        self.max_pixels[width.blocks() - 1]
    }
}

/// The kernels of an instruction set; the scalar kernels for a set that this program was not compiled for.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    // SAFETY: the CPU has `isa`; the function takes no arguments.
    unsafe { isa.call::<KernelLookup>(()) }
}

/// Returns the table of an instruction set.
struct KernelLookup;

impl SimdFn for KernelLookup {
    type Args<'a> = ();
    type Output = &'static Kernels;

    #[inline(always)]
    unsafe fn run<S: Simd>((): ()) -> &'static Kernels {
        KernelTable::<S>::KERNELS
    }
}

/// The table of `S`.
struct KernelTable<S>(PhantomData<S>);

impl<S: Simd> KernelTable<S> {
    const KERNELS: &'static Kernels = &Kernels {
        lanes: S::LANES,
        max_pixels: [S::PIXELS_1, S::PIXELS_2],
        tile: tile::<S>,
        depthwise: S::call::<DepthwiseKernel>,
        input: [S::call::<InputKernel<4, false>>, S::call::<InputKernel<5, false>>, S::call::<InputKernel<6, false>>],
        input_scaled: [
            S::call::<InputKernel<4, true>>,
            S::call::<InputKernel<5, true>>,
            S::call::<InputKernel<6, true>>,
        ],
        weights: [S::call::<WeightKernel<4>>, S::call::<WeightKernel<5>>, S::call::<WeightKernel<6>>],
        output: [S::call::<OutputKernel<4, 2>>, S::call::<OutputKernel<5, 3>>, S::call::<OutputKernel<6, 4>>],
        smooth: S::call::<SmoothKernel>,
    };
}

/// The tile kernel for `pixels`, at most [`Kernels::max_pixels`].
fn tile<S: Simd>(pixels: usize, width: GroupWidth, residual: bool, step: PixelStep) -> TileFn {
    // The only list of tile sizes, up to the largest of all instruction sets. Sizes beyond those of `S` are not
    // compiled.
    macro_rules! for_size {
        ($($size:literal)*) => {
            match pixels {
                $($size => tile_of_pixels::<S, $size>(width, residual, step),)*
                _ => unreachable!("no kernel for {pixels} pixels of {width:?}"),
            }
        };
    }
    for_size!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28)
}

/// The tile kernel for `P` pixels.
fn tile_of_pixels<S: Simd, const P: usize>(width: GroupWidth, residual: bool, step: PixelStep) -> TileFn {
    match width {
        GroupWidth::One if const { P <= S::PIXELS_1 } => tile_of_blocks::<S, P, 1>(residual, step),
        GroupWidth::Two if const { P <= S::PIXELS_2 } => tile_of_blocks::<S, P, 2>(residual, step),
        GroupWidth::Half if const { P <= S::PIXELS_1 && supports_half_blocks(S::LANES) } => {
            half_tile::<S, P>(residual, step)
        }
        _ => unreachable!("no kernel for {P} pixels of {width:?}"),
    }
}

/// The tile kernel for `P` pixels and `NB` channel blocks. Instruction sets without prefetch use the kernels that do
/// not fetch ahead.
fn tile_of_blocks<S: Simd, const P: usize, const NB: usize>(residual: bool, step: PixelStep) -> TileFn {
    use PixelStep::*;
    match (residual, step) {
        (false, BlockAhead) if S::PREFETCHES => S::call::<TileKernel<P, NB, false, { BlockAhead as u8 }>>,
        (false, TwoBlocksAhead) if S::PREFETCHES => S::call::<TileKernel<P, NB, false, { TwoBlocksAhead as u8 }>>,
        (false, Block | BlockAhead) => S::call::<TileKernel<P, NB, false, { Block as u8 }>>,
        (false, TwoBlocks | TwoBlocksAhead) => S::call::<TileKernel<P, NB, false, { TwoBlocks as u8 }>>,
        (false, PlanarOne) => S::call::<TileKernel<P, NB, false, { PlanarOne as u8 }>>,
        (false, PlanarTwo) => S::call::<TileKernel<P, NB, false, { PlanarTwo as u8 }>>,
        (false, Runtime) => S::call::<TileKernel<P, NB, false, { Runtime as u8 }>>,
        (true, BlockAhead) if S::PREFETCHES => S::call::<TileKernel<P, NB, true, { BlockAhead as u8 }>>,
        (true, Block | BlockAhead) => S::call::<TileKernel<P, NB, true, { Block as u8 }>>,
        (true, TwoBlocks) => S::call::<TileKernel<P, NB, true, { TwoBlocks as u8 }>>,
        (true, _) => S::call::<TileKernel<P, NB, true, { Runtime as u8 }>>,
    }
}

/// The tile kernel for `P` pixels and a half block.
fn half_tile<S: Simd, const P: usize>(residual: bool, step: PixelStep) -> TileFn {
    use PixelStep::*;
    match (residual, step) {
        (false, Block | BlockAhead) => S::call::<HalfTileKernel<P, false, { Block as u8 }>>,
        (false, TwoBlocks | TwoBlocksAhead) => S::call::<HalfTileKernel<P, false, { TwoBlocks as u8 }>>,
        (false, PlanarOne) => S::call::<HalfTileKernel<P, false, { PlanarOne as u8 }>>,
        (false, PlanarTwo) => S::call::<HalfTileKernel<P, false, { PlanarTwo as u8 }>>,
        (false, Runtime) => S::call::<HalfTileKernel<P, false, { Runtime as u8 }>>,
        (true, Block | BlockAhead) => S::call::<HalfTileKernel<P, true, { Block as u8 }>>,
        (true, _) => S::call::<HalfTileKernel<P, true, { Runtime as u8 }>>,
    }
}
