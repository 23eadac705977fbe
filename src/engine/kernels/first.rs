//! The first convolution of a network: it reads the picture's planes, three channels that would waste most of a block.

use super::conv::{ConvParams, ConvSpec};
use super::direct::{Direct, Lattice};
use super::epilogue::Epilogue;
use super::isa::{Kernels, kernels};
use super::pack::{PackCache, pack_groups};
use super::parallel;
use super::tile::Segment;
use super::{Aligned, Blocked, Isa};

/// A convolution from dense planes `[n][c][h][w]` to a blocked tensor.
pub struct FirstConv {
    spec: ConvSpec,
    kernels: &'static Kernels,
    source: [usize; 3],
    /// Height and width of a padded plane.
    padded: [usize; 2],
    /// Value of the padding, for each channel.
    fill: Vec<f32>,
    target: Blocked,
    epilogue: Epilogue,
    direct: Direct,
}

impl FirstConv {
    /// `source` is the height and width of the planes. Errs (`None`) on groups and dilation, which no first layer has.
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
        let reach = |out: usize, stride: usize, kernel: usize| (out.max(1) - 1) * stride + kernel;
        let padded = [
            reach(target.h, spec.stride[0], kh).max(spec.pad.top + source[0]),
            // A few more, so that no tile reads beyond the last plane.
            reach(target.w, spec.stride[1], kw).max(spec.pad.left + source[1]),
        ];
        let depth = spec.in_channels * kh * kw;
        let packed = cache.get(params.layer, "first", || {
            let mut packed = Aligned::zeros(target.blocks() * lanes * depth);
            pack_groups(spec.out_channels, depth, lanes, &mut packed, |channel, k| params.weights[channel * depth + k]);
            packed
        });
        let mut bias = params.bias.to_vec();
        if let Some(shift) = params.input_shift {
            super::conv::add_shifted_input(&mut bias, params.weights, shift, spec.in_channels, spec);
        }
        let plane = padded[0] * padded[1];
        let segments = (0..spec.in_channels)
            .flat_map(|c| (0..kh).map(move |ky| Segment { offset: c * plane + ky * padded[1], len: kw }))
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
            fill,
            target,
        })
    }

    pub fn algorithm(&self) -> &'static str {
        "first"
    }

    pub fn flops(&self) -> u64 {
        self.spec.flops(self.target.n, self.target.h, self.target.w)
    }

    /// Runs on rayon's current pool. `source` holds the planes of all images, `target` its layout's length.
    pub fn run(&self, source: &[f32], target: &mut [f32]) {
        let [channels, height, width] = self.source;
        assert!(source.len() >= self.target.n * channels * height * width && target.len() >= self.target.len());
        let [rows, columns] = self.padded;
        parallel::with_scratch(self.target.n * channels * rows * columns, |padded| {
            for (i, plane) in padded.chunks_exact_mut(rows * columns).enumerate() {
                let from = &source[i * height * width..(i + 1) * height * width];
                self.pad(from, self.fill[i % channels], plane);
            }
            self.direct.run(self.kernels, &self.epilogue, padded, std::ptr::null(), target);
        });
    }

    fn pad(&self, from: &[f32], fill: f32, plane: &mut [f32]) {
        let [_, height, width] = self.source;
        let (columns, top, left) = (self.padded[1], self.spec.pad.top, self.spec.pad.left);
        let (above, rest) = plane.split_at_mut(top * columns);
        above.fill(fill);
        let (rows, below) = rest.split_at_mut(height * columns);
        below.fill(fill);
        for (row, from) in rows.chunks_exact_mut(columns).zip(from.chunks_exact(width)) {
            row[..left].fill(fill);
            row[left..left + width].copy_from_slice(from);
            row[left + width..].fill(fill);
        }
    }
}
