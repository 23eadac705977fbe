//! Fully connected layers: a matrix-vector product for one row, and a matrix product for several rows.

use std::sync::Arc;

use crate::kernels::activation::{Activation, SmoothRow};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::{Kernels, kernels};
use crate::kernels::tile::{PixelStep, Tile, split_evenly};
use crate::layout::aligned::Aligned;
use crate::layout::pack::{ChannelGroup, PackCache, Segment, channel_groups, group_start, pack_groups};
use crate::run::parallel;
use crate::run::parallel::SharedPtr;
use crate::simd::Isa;

/// `y = activation(W x + b)`, ready to run.
pub struct Dense {
    kernels: &'static Kernels,
    inputs: usize,
    outputs: usize,
    weights: Arc<Aligned>,
    epilogue: Epilogue,
    groups: Vec<ChannelGroup>,
}

impl Dense {
    /// Packs the weights. `weight(output, input)` returns an element of the matrix; `layer` is the key in the cache.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        isa: Isa,
        layer: &str,
        inputs: usize,
        outputs: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: &[f32],
        activation: Option<&Activation>,
        cache: &PackCache,
    ) -> Dense {
        let kernels = kernels(isa);
        let blocks = outputs.div_ceil(kernels.lanes);
        let weights = cache.get(layer, "dense", || {
            let mut packed = Aligned::zeros(blocks * kernels.lanes * inputs);
            pack_groups(outputs, inputs, kernels.lanes, false, &mut packed, weight);
            packed
        });
        let epilogue = Epilogue::new(bias, activation, blocks * kernels.lanes);
        Dense { kernels, inputs, outputs, weights, epilogue, groups: channel_groups(outputs, kernels.lanes, false) }
    }

    /// Number of multiplications and additions for `rows` rows.
    pub fn flops(&self, rows: usize) -> u64 {
        2 * (rows * self.inputs * self.outputs) as u64
    }

    /// Computes `target`, `[rows][outputs]`, from `source`, `[rows][inputs]`, on all members of the team.
    pub fn run(&self, source: &[f32], target: &mut [f32]) {
        let rows = target.len() / self.outputs;
        assert!(source.len() >= rows * self.inputs);
        let lanes = self.kernels.lanes;
        let padded = self.groups.iter().map(|g| g.width.blocks()).sum::<usize>() * lanes;
        parallel::with_scratch(rows * padded, |scratch| {
            let out = SharedPtr(scratch.as_mut_ptr());
            parallel::parallel_for(self.groups.len(), |g| {
                let group = self.groups[g];
                let segments = [Segment { offset: 0, len: self.inputs }];
                for (first, pixels) in split_evenly(rows, self.kernels.max_pixels(group.width)) {
                    let tile = Tile {
                        input: source[first * self.inputs..].as_ptr(),
                        input_step: self.inputs,
                        segments: &segments,
                        weights: self.weights[group_start(group, self.inputs, lanes)..].as_ptr(),
                        bias: self.epilogue.bias[group.first * lanes..].as_ptr(),
                        slope: self.epilogue.slope[group.first * lanes..].as_ptr(),
                        limit: self.epilogue.limit,
                        rectifier: self.epilogue.rectifier,
                        residual: std::ptr::null(),
                        residual_step: 0,
                        residual_block: 0,
                        output: out.at(first * padded + group.first * lanes),
                        output_step: padded,
                        output_block: lanes,
                        ahead: std::ptr::null(),
                        ahead_step: 0,
                    };
                    // SAFETY: source and scratch hold all rows; groups write different columns.
                    unsafe { (self.kernels.tile)(pixels, group.width, false, PixelStep::Runtime)(&tile) };
                }
            });
            if let Some(activation) = self.epilogue.smooth {
                let row = SmoothRow { values: scratch.as_mut_ptr(), len: scratch.len(), activation };
                // SAFETY: the scratch just written, a multiple of the lanes long.
                unsafe { (self.kernels.smooth)(&row) };
            }
            for (to, from) in target.chunks_exact_mut(self.outputs).zip(scratch.chunks_exact(padded)) {
                to.copy_from_slice(&from[..self.outputs]);
            }
        });
    }
}
