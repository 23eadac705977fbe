//! The first convolution of a network. It reads the planes of the picture, because three channels would leave most
//! lanes of a block empty.

use crate::kernels::conv::direct::{Direct, Lattice};
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::conv::strip::Strip;
use crate::kernels::conv::weights::add_shifted_input;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::{Kernels, kernels};
use crate::layout::aligned::Aligned;
use crate::layout::blocked::Blocked;
use crate::layout::pack::{PackCache, Segment, ends_in_half, pack_groups};
use crate::run::parallel;
use crate::run::parallel::SharedPtr;
use crate::simd::Isa;

/// Maximum number of output rows that are computed together; their padded input stays in the second-level cache.
const MAX_ROWS: usize = 8;

/// A convolution from dense planes `[n][c][h][w]` to a blocked tensor.
pub struct FirstConv {
    spec: ConvSpec,
    kernels: &'static Kernels,
    source: [usize; 3],
    /// Height and width of the part of a padded plane that a band of output rows reads.
    padded: [usize; 2],
    /// Number of output rows of a band.
    rows: usize,
    /// Value of the padding for each channel.
    fill: Vec<f32>,
    target: Blocked,
    epilogue: Epilogue,
    direct: Direct,
}

impl FirstConv {
    /// `source` is the height and width of the planes. `None` for groups or dilation, which first layers do not have.
    pub fn new(
        isa: Isa,
        spec: &ConvSpec,
        params: &ConvParams,
        source: [usize; 2],
        target: Blocked,
        cache: &PackCache,
    ) -> Option<FirstConv> {
        if spec.groups != 1 || spec.dilation != [1, 1] {
            return None;
        }
        let kernels = kernels(isa);
        let lanes = kernels.lanes;
        let [kh, kw] = spec.kernel;
        // A half block needs pairs of inputs, so the rows of filters with an odd width get an additional tap of weight
        // 0.
        let half = ends_in_half(spec.out_channels, lanes);
        let taps = if half { kw.next_multiple_of(2) } else { kw };
        let reach = |out: usize, stride: usize, kernel: usize| (out.max(1) - 1) * stride + kernel;
        let rows = MAX_ROWS.min(target.h.max(1));
        let padded =
            [reach(rows, spec.stride[0], kh), reach(target.w, spec.stride[1], taps).max(spec.pad.left + source[1])];
        let depth = spec.in_channels * kh * taps;
        let packed = cache.get(params.layer, "first", || {
            let mut packed = Aligned::zeros(target.blocks() * lanes * depth);
            pack_groups(spec.out_channels, depth, lanes, half, &mut packed, |channel, k| {
                let (row, tap) = (channel * spec.in_channels * kh + k / taps, k % taps);
                if tap < kw { params.weights[row * kw + tap] } else { 0.0 }
            });
            packed
        });
        let mut bias = params.bias.to_vec();
        if let Some(shift) = params.input_shift {
            add_shifted_input(&mut bias, params.weights, shift, spec.in_channels, spec);
        }
        let plane = padded[0] * padded[1];
        let segments = (0..spec.in_channels)
            .flat_map(|c| (0..kh).map(move |ky| Segment { offset: c * plane + ky * padded[1], len: taps }))
            .collect();
        let lattice = Lattice {
            rows: target.h,
            columns: target.w,
            input_row: spec.stride[0] * padded[1],
            input_step: spec.stride[1],
            output_row: target.row_stride(),
            output_step: lanes,
            first_output: target.offset(0, 0, 0, 0),
        };
        let fill = params.input_shift.map_or(vec![0.0; spec.in_channels], |s| s.iter().map(|v| -v).collect());
        Some(FirstConv {
            direct: Direct::new(kernels, packed, segments, spec.in_channels * plane, &target, None, 0, lattice),
            epilogue: Epilogue::new(&bias, params.activation, target.blocks() * lanes),
            source: [spec.in_channels, source[0], source[1]],
            spec: spec.clone(),
            kernels,
            padded,
            rows,
            fill,
            target,
        })
    }

    /// Name of the algorithm, for reports.
    pub fn algorithm(&self) -> &'static str {
        "first"
    }

    /// Multiplications and additions of the direct algorithm.
    pub fn flops(&self) -> u64 {
        self.spec.flops(self.target.n, self.target.h, self.target.w)
    }

    /// Runs on all members of the team. `source` has the planes of all images, and `target` the length of its layout.
    pub fn run(&self, source: &[f32], target: &mut [f32]) {
        let [channels, height, width] = self.source;
        assert!(source.len() >= self.target.n * channels * height * width && target.len() >= self.target.len());
        let out = SharedPtr(target.as_mut_ptr());
        let bands = self.target.h.div_ceil(self.rows);
        parallel::parallel_for(self.target.n * bands, |task| {
            let (n, first) = (task / bands, task % bands * self.rows);
            let rows = first..(first + self.rows).min(self.target.h);
            self.rows(&Strip { source, source_image: n, source_first: 0, out, out_image: n, out_first: 0, rows });
        });
    }

    /// Computes the rows of a strip on this thread. The target layout given to [`FirstConv::new`] may be a strip; the
    /// source has all rows.
    pub(crate) fn rows(&self, strip: &Strip) {
        let [channels, height, width] = self.source;
        let none = SharedPtr(std::ptr::null_mut());
        let plane = self.padded[0] * self.padded[1];
        for first in strip.rows.clone().step_by(self.rows) {
            let rows = self.rows.min(strip.rows.end - first);
            let read = ((rows - 1) * self.spec.stride[0] + self.spec.kernel[0]) * self.padded[1];
            parallel::with_scratch(channels * plane, |padded| {
                for (c, padded) in padded.chunks_exact_mut(plane).enumerate() {
                    let from = &strip.source[(strip.source_image * channels + c) * height * width..][..height * width];
                    self.pad(from, self.fill[c], first * self.spec.stride[0], &mut padded[..read]);
                }
                for y in first..first + rows {
                    let input = &padded[(y - first) * self.spec.stride[0] * self.padded[1]..];
                    let (image, row) = (strip.out_image, strip.out_row(y));
                    self.direct.run_row(self.kernels, &self.epilogue, input, none, strip.out, image, row);
                }
            });
        }
    }

    /// Fills `padded` with rows of the padded plane, starting with row `first`.
    fn pad(&self, from: &[f32], fill: f32, first: usize, padded: &mut [f32]) {
        let [_, height, width] = self.source;
        let (top, left) = (self.spec.pad.top, self.spec.pad.left);
        for (y, row) in padded.chunks_exact_mut(self.padded[1]).enumerate() {
            match (first + y).checked_sub(top).filter(|&y| y < height) {
                Some(y) => {
                    row[..left].fill(fill);
                    row[left..left + width].copy_from_slice(&from[y * width..(y + 1) * width]);
                    row[left + width..].fill(fill);
                }
                None => row.fill(fill),
            }
        }
    }
}
