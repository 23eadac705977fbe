//! Transposed convolution as one convolution for each phase of the stride.

use crate::kernels::conv::direct::{Direct, Lattice};
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::conv::weights::pack_direct;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::{Kernels, kernels};
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::{PackCache, block_segments};
use crate::simd::Isa;

/// A transposed convolution with packed weights. All output pixels with the same position modulo the stride use the
/// same taps, so each remainder (phase) is a small convolution that writes every `stride`-th pixel.
pub struct Deconv {
    kernels: &'static Kernels,
    source: Blocked,
    target: Blocked,
    epilogue: Epilogue,
    phases: Vec<Direct>,
}

/// The taps of one phase along one axis.
struct Taps {
    /// Kernel positions.
    kernel: Vec<usize>,
    /// Input position of the first output pixel of the phase for the first kernel position.
    base: isize,
}

/// The taps of a phase of an axis with `before` pixels of padding at the start.
fn taps(phase: usize, before: usize, kernel: usize, stride: usize) -> Taps {
    let first = (phase + before) % stride;
    Taps { kernel: (first..kernel).step_by(stride).collect(), base: ((phase + before - first) / stride) as isize }
}

impl Deconv {
    /// The border of zeros that [`Deconv::run`] reads around a source of `in_hw` pixels for a target of `out_hw`
    /// pixels.
    pub fn source_halo(spec: &ConvSpec, in_hw: [usize; 2], out_hw: [usize; 2]) -> Halo {
        let axis = |axis: usize, before: usize| {
            let (mut low, mut high) = (0isize, 0isize);
            for phase in 0..spec.stride[axis] {
                let t = taps(phase, before, spec.kernel[axis], spec.stride[axis]);
                let pixels = out_hw[axis].saturating_sub(phase).div_ceil(spec.stride[axis]) as isize;
                low = low.min(t.base - (t.kernel.len() as isize - 1).max(0));
                high = high.max(t.base + pixels - in_hw[axis] as isize);
            }
            (-low as usize, high as usize)
        };
        let (top, bottom) = axis(0, spec.pad.top);
        let (left, right) = axis(1, spec.pad.left);
        Halo { top, left, bottom, right }
    }

    /// Packs the weights, `[in][out][kernel h][kernel w]`. `None` for groups or dilation.
    pub fn new(
        isa: Isa,
        spec: &ConvSpec,
        params: &ConvParams,
        source: Blocked,
        target: Blocked,
        cache: &PackCache,
    ) -> Option<Deconv> {
        if spec.groups != 1 || spec.dilation != [1, 1] {
            return None;
        }
        let kernels = kernels(isa);
        let lanes = kernels.lanes;
        let [kh, kw] = spec.kernel;
        let mut phases = vec![];
        for py in 0..spec.stride[0] {
            for px in 0..spec.stride[1] {
                let (rows, columns) =
                    (taps(py, spec.pad.top, kh, spec.stride[0]), taps(px, spec.pad.left, kw, spec.stride[1]));
                let lattice = Lattice {
                    rows: target.h.saturating_sub(py).div_ceil(spec.stride[0]),
                    columns: target.w.saturating_sub(px).div_ceil(spec.stride[1]),
                    input_row: source.row_stride(),
                    input_step: lanes,
                    output_row: spec.stride[0] * target.row_stride(),
                    output_step: spec.stride[1] * lanes,
                    first_output: target.offset(0, 0, py as isize, px as isize),
                };
                if lattice.rows == 0 || lattice.columns == 0 {
                    continue;
                }
                // Taps have the reverse order of the input; the origin is the top left tap.
                let (last_row, last_column) = (rows.kernel.len() as isize - 1, columns.kernel.len() as isize - 1);
                let order: Vec<(usize, usize)> = (0..rows.kernel.len())
                    .rev()
                    .flat_map(|y| (0..columns.kernel.len()).rev().map(move |x| (y, x)))
                    .collect();
                let offsets: Vec<usize> = order
                    .iter()
                    .map(|&(y, x)| (last_row as usize - y) * source.row_stride() + (last_column as usize - x) * lanes)
                    .collect();
                let packed = cache.get(params.layer, &format!("deconv {py} {px}"), || {
                    let count = order.len();
                    let mut phase = vec![0f32; spec.out_channels * spec.in_channels * count];
                    for (i, to) in phase.chunks_exact_mut(count.max(1)).enumerate() {
                        let (output, input) = (i / spec.in_channels, i % spec.in_channels);
                        let from = &params.weights[(input * spec.out_channels + output) * kh * kw..];
                        for (to, &(y, x)) in to.iter_mut().zip(&order) {
                            *to = from[rows.kernel[y] * kw + columns.kernel[x]];
                        }
                    }
                    pack_direct(&phase, spec.in_channels, spec.out_channels, count, lanes)
                });
                let origin = if order.is_empty() {
                    0
                } else {
                    source.offset(0, 0, rows.base - last_row, columns.base - last_column)
                };
                let segments = block_segments(source.c, lanes, source.block_stride(), &offsets);
                phases.push(Direct::new(
                    kernels,
                    packed,
                    segments,
                    source.image_stride(),
                    &target,
                    None,
                    origin,
                    lattice,
                ));
            }
        }
        let epilogue = Epilogue::new(params.bias, params.activation, target.blocks() * lanes);
        Some(Deconv { kernels, source, target, epilogue, phases })
    }

    /// Runs on all members of the team. The halo of the source must be zero.
    pub fn run(&self, source: &[f32], target: &mut [f32]) {
        assert!(source.len() >= self.source.len() && target.len() >= self.target.len());
        for phase in &self.phases {
            phase.run(self.kernels, &self.epilogue, source, std::ptr::null(), target);
        }
    }
}
