//! Instruction sets, and the table of kernels compiled for each.

use std::sync::OnceLock;

use crate::kernels::depthwise;
use crate::kernels::depthwise::DepthwiseFn;
use crate::kernels::tile;
use crate::kernels::tile::{Step, Tile, TileFn};
use crate::kernels::winograd::transform;
use crate::kernels::winograd::transform::{InputFn, OutputFn, WeightFn};
use crate::layout::gather;
use crate::layout::gather::{Chosen, GatherFn};
use crate::layout::pack::{Width, halved};
use crate::simd::activate;
use crate::simd::activate::CurveFn;
use crate::simd::scalar::Scalar;
use crate::simd::vector::Simd;

/// An instruction set the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    Scalar,
    /// WebAssembly simd128; chosen when the module is compiled, not at run time.
    Simd128,
    Neon,
    Avx2,
    Avx512,
}

impl Isa {
    /// The best this CPU has. The environment variable `IFR_ISA` (`avx512`, `avx2`, `neon`, `simd128`, `scalar`) forces it down, never
    /// up: code for instructions that are missing is not reached.
    pub fn detect() -> Isa {
        static DETECTED: OnceLock<Isa> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let available = Isa::available();
            let wanted = std::env::var("IFR_ISA").ok().and_then(|name| Isa::from_name(&name));
            wanted.filter(|isa| available.contains(isa)).unwrap_or(available[0])
        })
    }

    /// All this CPU can run, best first.
    pub fn available() -> Vec<Isa> {
        let mut found = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            if avx2 && std::arch::is_x86_feature_detected!("avx512f") {
                found.push(Isa::Avx512);
            }
            if avx2 {
                found.push(Isa::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa::Neon);
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        found.push(Isa::Simd128);
        found.push(Isa::Scalar);
        found
    }

    /// Channels in a block of a blocked tensor.
    pub fn lanes(self) -> usize {
        kernels(self).lanes
    }

    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Simd128 => "simd128",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    fn from_name(name: &str) -> Option<Isa> {
        [Isa::Scalar, Isa::Simd128, Isa::Neon, Isa::Avx2, Isa::Avx512].into_iter().find(|i| i.name() == name)
    }
}

/// The kernels of one instruction set, ready to call.
pub(crate) struct Kernels {
    pub lanes: usize,
    /// Most pixels of a tile of one channel block and of two.
    pixels: [usize; 2],
    /// The tile kernel for (pixels, width, residual, step).
    pub tile: fn(usize, Width, bool, Step) -> TileFn,
    pub depthwise: DepthwiseFn,
    /// Winograd's transforms for output tiles of 2, 3 and 4.
    pub input: [InputFn; 3],
    /// Those of inputs for weights from [`Kernels::weights`].
    pub input_scaled: [InputFn; 3],
    pub weights: [WeightFn; 3],
    pub output: [OutputFn; 3],
    pub curve: CurveFn,
    pub gather: GatherFn,
    pub lane_index: fn(usize) -> u32,
}

impl Kernels {
    /// Most pixels of a tile of this width.
    pub fn pixels(&self, width: Width) -> usize {
        self.pixels[width.blocks() - 1]
    }
}

macro_rules! kernel_table {
    ($module:ident, $simd:ty, $($feature:literal)?, $($p1:literal)*, $($p2:literal)*) => {
        mod $module {
            use super::*;

            // SAFETY (all functions): `kernels()` hands them out only for instruction sets the CPU has.
            $(#[target_feature(enable = $feature)])?
            unsafe fn tile<const P: usize, const NB: usize, const RESIDUAL: bool, const STEP: usize>(t: &Tile) {
                unsafe { tile::run::<$simd, P, NB, RESIDUAL, STEP>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn half<const P: usize, const RESIDUAL: bool, const STEP: usize>(t: &Tile) {
                unsafe { tile::run_half::<$simd, P, RESIDUAL, STEP>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn depthwise_row(r: &depthwise::DepthwiseRow) {
                unsafe { depthwise::row::<$simd>(r) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn input<const T: usize, const SCALED: bool>(t: &transform::InputTile) {
                unsafe { transform::input::<$simd, T, SCALED>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn weights<const T: usize>(line: &transform::WeightLine) {
                unsafe { transform::weights::<$simd, T>(line) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn output<const T: usize, const M: usize>(t: &transform::OutputTile) {
                unsafe { transform::output::<$simd, T, M>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn curve(values: *mut f32, len: usize, curve: activate::Curve) {
                unsafe { activate::apply::<$simd>(values, len, curve) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn gather_row(sources: &[Chosen], out: *mut f32, pixels: usize, add: bool) {
                unsafe { gather::row::<$simd>(sources, out, pixels, add) }
            }

            const AHEAD: usize = if <$simd>::PREFETCHES { 5 } else { 1 };
            const TWO_AHEAD: usize = if <$simd>::PREFETCHES { 6 } else { 2 };

            fn variant<const P: usize, const NB: usize>(residual: bool, step: Step) -> TileFn {
                match (residual, step) {
                    (false, Step::One) => tile::<P, NB, false, 1>,
                    (false, Step::Two) => tile::<P, NB, false, 2>,
                    (false, Step::PlanarOne) => tile::<P, NB, false, 3>,
                    (false, Step::PlanarTwo) => tile::<P, NB, false, 4>,
                    (false, Step::Ahead) => tile::<P, NB, false, AHEAD>,
                    (false, Step::TwoAhead) => tile::<P, NB, false, TWO_AHEAD>,
                    (false, Step::Any) => tile::<P, NB, false, 0>,
                    (true, Step::One) => tile::<P, NB, true, 1>,
                    (true, Step::Ahead) => tile::<P, NB, true, AHEAD>,
                    (true, Step::Two) => tile::<P, NB, true, 2>,
                    (true, _) => tile::<P, NB, true, 0>,
                }
            }

            fn half_variant<const P: usize>(residual: bool, step: Step) -> TileFn {
                match (residual, step) {
                    (false, Step::One | Step::Ahead) => half::<P, false, 1>,
                    (false, Step::Two | Step::TwoAhead) => half::<P, false, 2>,
                    (false, Step::PlanarOne) => half::<P, false, 3>,
                    (false, Step::PlanarTwo) => half::<P, false, 4>,
                    (true, Step::One | Step::Ahead) => half::<P, true, 1>,
                    (false, _) => half::<P, false, 0>,
                    (true, _) => half::<P, true, 0>,
                }
            }

            fn choose(pixels: usize, width: Width, residual: bool, step: Step) -> TileFn {
                match (width, pixels) {
                    $((Width::One, $p1) => variant::<$p1, 1>(residual, step),)*
                    $((Width::Two, $p2) => variant::<$p2, 2>(residual, step),)*
                    $((Width::Half, $p1) if halved(<$simd>::LANES) => half_variant::<$p1>(residual, step),)*
                    _ => unreachable!("no kernel for {pixels} pixels of {width:?}"),
                }
            }

            pub(crate) static TABLE: Kernels = Kernels {
                lanes: <$simd>::LANES,
                pixels: [<$simd>::PIXELS_1, <$simd>::PIXELS_2],
                tile: choose,
                depthwise: depthwise_row,
                input: [input::<4, false>, input::<5, false>, input::<6, false>],
                input_scaled: [input::<4, true>, input::<5, true>, input::<6, true>],
                weights: [weights::<4>, weights::<5>, weights::<6>],
                output: [output::<4, 2>, output::<5, 3>, output::<6, 4>],
                curve,
                gather: gather_row,
                lane_index: <$simd>::lane_index,
            };
        }
    };
}

kernel_table!(scalar_table, Scalar, , 1 2 3 4 5 6, 1 2 3 4);
#[cfg(target_arch = "x86_64")]
kernel_table!(avx512_table, crate::simd::avx512::Avx512, "avx512f", 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
#[cfg(target_arch = "x86_64")]
kernel_table!(avx2_table, crate::simd::avx2::Avx2, "avx2,fma", 1 2 3 4 5 6 7 8 9 10 11 12, 1 2 3 4 5 6);
#[cfg(target_arch = "aarch64")]
kernel_table!(neon_table, crate::simd::neon::Neon, "neon", 1 2 3 4 5 6 7 8 9 10 11 12 13 14, 1 2 3 4 5 6 7 8 9 10 11 12);
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
kernel_table!(simd128_table, crate::simd::simd128::Simd128, , 1 2 3 4 5 6 7 8 9 10, 1 2 3 4 5 6);

/// The kernels of an instruction set; the scalar ones for a set this program was not compiled for.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &avx512_table::TABLE,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &avx2_table::TABLE,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => &neon_table::TABLE,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::Simd128 => &simd128_table::TABLE,
        _ => &scalar_table::TABLE,
    }
}
