//! Consecutive layers, computed in strips: a few rows of the last map at a time, and only the rows of the other maps
//! that these depend on.
//!
//! The first maps of a detector have few channels and take many megabytes. Layer by layer, each map is written to
//! memory and read again; strips stay in the second-level cache.

use std::cell::Cell;
use std::ops::Range;

use crate::kernels::conv::Conv;
use crate::kernels::conv::first::FirstConv;
use crate::kernels::conv::separable::Separable;
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::conv::strip::Strip;
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::PackCache;
use crate::run::parallel;
use crate::run::parallel::SharedPtr;
use crate::simd::Isa;

/// Preferred size of all strips of a chain in bytes, for each vector lane. Strips and weights should stay in the
/// second-level cache; CPUs with wider vectors have a larger cache.
const STRIP_BYTES_PER_LANE: usize = 24 << 10;
/// Maximum size of all strips if one row of the last map needs more than [`STRIP_BYTES_PER_LANE`]: most of a cache of
/// 1 MiB, which is still faster than main memory.
const MAX_STRIP_BYTES: usize = 896 << 10;
/// CPUs with at least this many f32 lanes (AVX-512) are assumed to have at least 1 MiB of L2.
const LARGE_CACHE_LANES: usize = 16;
/// Maximum number of rows of the last map at a time; a larger number is not faster.
const MAX_ROWS: usize = 8;
/// Maximum length of a chain.
const MAX_STAGES: usize = 8;

/// Geometry and weights of a convolution.
pub type ConvLayer<'a> = (&'a ConvSpec, &'a ConvParams<'a>);

/// A layer, or a fused pair of layers, of a chain.
pub enum ChainLayer<'a> {
    /// The first convolution of a network, which reads planes; only at the start of a chain.
    First(ConvLayer<'a>),
    Conv(ConvLayer<'a>),
    /// A depthwise convolution and a 1x1 convolution.
    Separable([ConvLayer<'a>; 2]),
}

impl ChainLayer<'_> {
    /// The convolution that reads the layer before.
    fn reader(&self) -> &ConvSpec {
        match self {
            ChainLayer::First((spec, _)) | ChainLayer::Conv((spec, _)) | ChainLayer::Separable([(spec, _), _]) => spec,
        }
    }
}

/// The geometry of a layer of a chain.
#[derive(Clone)]
pub struct ChainLayerShape {
    /// The convolution that reads the layer before.
    pub reader: ConvSpec,
    /// Channels, rows and columns of the result.
    pub result: [usize; 3],
}

/// A layer of a chain with its kernel.
enum ChainStage {
    First(FirstConv),
    Conv(Conv),
    Separable(Box<Separable>),
}

/// Input of a chain.
#[derive(Clone, Copy)]
pub enum ChainSource {
    /// Rows and columns of dense planes.
    Planes([usize; 2]),
    Blocked(Blocked),
}

/// Consecutive layers with packed weights. Several threads can run it at the same time.
pub struct Chain {
    stages: Vec<ChainStage>,
    /// For each stage, the convolution that reads the stage before.
    readers: Vec<ConvSpec>,
    /// Map height of each stage except the last.
    heights: Vec<usize>,
    /// Layout of the output of each stage except the last, with the number of rows that the next stage reads at a time.
    strips: Vec<Blocked>,
    /// Number of rows of the last map that are computed at a time.
    rows: usize,
    target: Blocked,
    flops: u64,
}

impl Chain {
    /// The best number of rows of the last map to compute at a time; `None` if the strips of the chain exceed the
    /// cache.
    pub fn fits(layers: &[ChainLayerShape], lanes: usize) -> Option<usize> {
        let bytes =
            |rows: usize| strips(layers, rows, lanes).iter().map(Blocked::len).sum::<usize>() * size_of::<f32>();
        let fit = (1..=MAX_ROWS).rev().find(|&rows| bytes(rows) <= STRIP_BYTES_PER_LANE * lanes);
        let tight = lanes >= LARGE_CACHE_LANES && bytes(1) <= MAX_STRIP_BYTES;
        fit.or(tight.then_some(1)).filter(|_| layers.len() <= MAX_STAGES)
    }

    /// Whether a convolution of `batch` maps to `out_hw` pixels can be part of a chain.
    pub fn takes(spec: &ConvSpec, batch: usize, out_hw: [usize; 2]) -> bool {
        Conv::is_rowwise(spec, batch, out_hw)
    }

    /// Packs all weights. `results` are channels, rows and columns of the result of each layer. `None` unless the chain
    /// [fits](Chain::fits).
    pub fn new(
        isa: Isa,
        layers: &[ChainLayer],
        results: &[[usize; 3]],
        source: ChainSource,
        target: Blocked,
        cache: &PackCache,
    ) -> Option<Chain> {
        let lanes = isa.lanes();
        let shapes: Vec<ChainLayerShape> = layers
            .iter()
            .zip(results)
            .map(|(layer, &result)| ChainLayerShape { reader: layer.reader().clone(), result })
            .collect();
        let rows = Chain::fits(&shapes, lanes)?;
        let strips = strips(&shapes, rows, lanes);
        let mut stages = vec![];
        let mut flops = 0;
        for (i, (layer, shape)) in layers.iter().zip(&shapes).enumerate() {
            let to = strips.get(i).copied().unwrap_or(target);
            let from = match i {
                0 => source,
                _ => ChainSource::Blocked(strips[i - 1]),
            };
            let flops_of = |spec: &ConvSpec| spec.flops(target.n, shape.result[1], shape.result[2]);
            stages.push(match (layer, from) {
                (ChainLayer::First((spec, params)), ChainSource::Planes(hw)) => {
                    flops += flops_of(spec);
                    ChainStage::First(FirstConv::new(isa, spec, params, hw, to, cache)?)
                }
                (ChainLayer::Conv((spec, params)), ChainSource::Blocked(from)) => {
                    flops += flops_of(spec);
                    ChainStage::Conv(Conv::by_rows(isa, spec, params, from, to, cache))
                }
                (ChainLayer::Separable([(depthwise, a), (pointwise, b)]), ChainSource::Blocked(from)) => {
                    flops += flops_of(depthwise) + flops_of(pointwise);
                    let both = Separable::new(isa, [depthwise, pointwise], [a, b], from, None, to, cache);
                    ChainStage::Separable(Box::new(both))
                }
                _ => return None,
            });
        }
        let heights = shapes[..strips.len()].iter().map(|s| s.result[1]).collect();
        let readers = shapes.into_iter().map(|s| s.reader).collect();
        Some(Chain { stages, readers, heights, strips, rows, target, flops })
    }

    /// Multiplications and additions of the direct algorithm.
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// Names of the stages, for reports.
    pub fn algorithm(&self) -> String {
        let names = self.stages.iter().map(|stage| match stage {
            ChainStage::First(first) => first.algorithm(),
            ChainStage::Conv(conv) => conv.algorithm(),
            ChainStage::Separable(_) => "depthwise and 1x1",
        });
        format!("in strips: {}", names.collect::<Vec<_>>().join(", "))
    }

    /// Runs on all members of the team. The slices have the lengths of the layouts given to [`Chain::new`]. The halo of
    /// the source must be filled.
    pub fn run(&self, source: &[f32], target: &mut [f32]) {
        assert!(target.len() >= self.target.len());
        let out = SharedPtr(target.as_mut_ptr());
        let threads = parallel::threads();
        // The rows at the start of a stretch of the picture are computed twice: the stretch above needs them, too.
        let stretches = if threads > 1 { (2 * threads).min(self.target.h.div_ceil(4 * self.rows)) } else { 1 };
        let memory = self.strips.iter().map(Blocked::len).sum();
        parallel::parallel_for(self.target.n * stretches, |task| {
            let (image, part) = (task / stretches, task % stretches);
            let rows = part * self.target.h / stretches..(part + 1) * self.target.h / stretches;
            parallel::with_scratch(memory, |memory| {
                // The left and right borders remain zero.
                memory.fill(0.0);
                let run = StretchRun {
                    chain: self,
                    source,
                    image,
                    memory: SharedPtr(memory.as_mut_ptr()),
                    held: Default::default(),
                };
                for first in rows.clone().step_by(self.rows) {
                    let rows = first..(first + self.rows).min(rows.end);
                    run.compute(self.stages.len() - 1, rows, out, image, 0);
                }
            });
        });
    }
}

/// Layouts of the strips between the layers if the last layer computes `rows` at a time.
fn strips(layers: &[ChainLayerShape], rows: usize, lanes: usize) -> Vec<Blocked> {
    let mut strips = vec![];
    let mut rows = rows;
    for pair in layers.windows(2).rev() {
        let (reader, [channels, _, columns]) = (&pair[1].reader, pair[0].result);
        rows = reader.rows_read(&(0..rows)).len();
        let reach = reader.columns_read(pair[1].result[2]);
        let right = reach.saturating_sub(reader.pad.left + columns);
        let halo = Halo { left: reader.pad.left, right, ..Halo::default() };
        strips.push(Blocked::new(1, channels, rows, columns, halo, lanes));
    }
    strips.reverse();
    strips
}

/// The computation of one stretch of an image by one thread, from top to bottom.
struct StretchRun<'a> {
    chain: &'a Chain,
    source: &'a [f32],
    image: usize,
    /// Memory of all strips, in the order of the stages.
    memory: SharedPtr,
    /// First row and end of the rows in each strip.
    held: [Cell<(isize, isize)>; MAX_STAGES],
}

impl StretchRun<'_> {
    /// Computes rows of a stage, and before them the rows of earlier stages that they depend on.
    fn compute(&self, stage: usize, rows: Range<usize>, out: SharedPtr, out_image: usize, out_first: isize) {
        let mut strip =
            Strip { source: self.source, source_image: self.image, source_first: 0, out, out_image, out_first, rows };
        if stage > 0 {
            let need = self.chain.readers[stage].rows_read(&strip.rows);
            self.provide(stage - 1, need.clone());
            let (from, len) = (self.strip(stage - 1), self.chain.strips[stage - 1].len());
            // SAFETY: the strip is inside the memory; no code writes to it while this stage runs.
            strip.source = unsafe { std::slice::from_raw_parts(from.0, len) };
            (strip.source_image, strip.source_first) = (0, need.start);
        }
        match &self.chain.stages[stage] {
            ChainStage::First(first) => first.rows(&strip),
            ChainStage::Conv(conv) => conv.rows(&strip),
            ChainStage::Separable(separable) => separable.rows(&strip),
        }
    }

    /// Provides the rows `need` in strip `index`; rows outside the map are zeros. From call to call, `need` only moves
    /// down.
    fn provide(&self, index: usize, need: Range<isize>) {
        let (layout, strip) = (self.chain.strips[index], self.strip(index));
        let (row, height) = (layout.row_stride(), self.chain.heights[index] as isize);
        let (held_from, held_to) = self.held[index].get();
        let kept = (held_to.min(need.end) - need.start).max(0) as usize;
        let moved = (need.start - held_from).max(0) as usize * row;
        let clear = |rows: Range<isize>, block: usize| {
            let (first, count) = ((rows.start - need.start) as usize, rows.len());
            // SAFETY: the rows are inside the strip, which only this thread uses.
            unsafe { std::ptr::write_bytes(strip.at(block * layout.block_stride() + first * row), 0, count * row) };
        };
        let new = need.start + kept as isize..need.end;
        for block in 0..layout.blocks() {
            let start = block * layout.block_stride();
            if kept > 0 && moved > 0 {
                // SAFETY: as above; the rows of `held` are inside the strip.
                unsafe { std::ptr::copy(strip.at(start + moved), strip.at(start), kept * row) };
            }
            clear(new.start..new.end.min(0).max(new.start), block);
            clear(new.start.max(height).min(new.end)..new.end, block);
        }
        let inside = new.start.max(0)..new.end.min(height);
        if !inside.is_empty() {
            self.compute(index, inside.start as usize..inside.end as usize, strip, 0, need.start);
        }
        self.held[index].set((need.start, need.end));
    }

    /// Start of a strip.
    fn strip(&self, index: usize) -> SharedPtr {
        SharedPtr(self.memory.at(self.chain.strips[..index].iter().map(Blocked::len).sum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::activation::Activation;
    use crate::kernels::conv::Conv;
    use crate::kernels::conv::first::FirstConv;
    use crate::kernels::tests::Noise;

    fn spec(inputs: usize, outputs: usize, groups: usize, kernel: usize, stride: usize) -> ConvSpec {
        let pad = kernel / 2;
        ConvSpec {
            in_channels: inputs,
            out_channels: outputs,
            groups,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1, 1],
            pad: Halo { top: pad, left: pad, bottom: pad, right: pad },
        }
    }

    /// Weights of one layer.
    struct LayerWeights {
        layer: String,
        weights: Vec<f32>,
        bias: Vec<f32>,
    }

    /// Random layers: a convolution, or a depthwise and a 1x1 convolution.
    fn random_layers(noise: &mut Noise, channels: usize) -> Vec<Vec<(ConvSpec, LayerWeights)>> {
        let mut channels = channels;
        let mut count = 0;
        (0..2 + noise.below(3))
            .map(|i| {
                let outputs = noise.pick(&[8, 16, 20, 40]);
                let kind = if i == 0 && channels == 3 { 0 } else { noise.below(3) };
                let specs = match kind {
                    0 => vec![spec(channels, outputs, 1, 3, noise.pick(&[1, 2]))],
                    1 => vec![spec(channels, outputs, 1, 1, 1)],
                    _ => {
                        let depthwise = spec(channels, channels, channels, 3, noise.pick(&[1, 2]));
                        vec![depthwise, spec(channels, outputs, 1, 1, 1)]
                    }
                };
                channels = outputs;
                let mut numbers = |s: ConvSpec| {
                    let size = s.out_channels * s.in_channels / s.groups * s.kernel[0] * s.kernel[1];
                    let weights = noise.values(size).iter().map(|w| w * 0.3).collect();
                    count += 1;
                    let layer = format!("layer {count}");
                    let bias = noise.values(s.out_channels);
                    (s, LayerWeights { layer, weights, bias })
                };
                specs.into_iter().map(&mut numbers).collect()
            })
            .collect()
    }

    fn params(numbers: &LayerWeights) -> ConvParams<'_> {
        ConvParams {
            layer: &numbers.layer,
            weights: &numbers.weights,
            bias: &numbers.bias,
            input_shift: None,
            activation: Some(&Activation::Leaky(0.1)),
        }
    }

    fn size(spec: &ConvSpec, from: [usize; 2]) -> [usize; 2] {
        from.map(|side| (side + 2 * spec.pad.top - spec.kernel[0]) / spec.stride[0] + 1)
    }

    #[test]
    fn chain_agrees_with_single_layers() {
        let pools = [1, 3].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap());
        for (isa, round) in Isa::available().into_iter().flat_map(|isa| (0..40).map(move |r| (isa, r))) {
            let noise = &mut Noise(round);
            let (batch, planes) = (noise.pick(&[1, 2]), round % 2 == 0);
            let channels = if planes { 3 } else { 24 };
            let layers = random_layers(noise, channels);
            let hw = [noise.below(60) + 3, noise.below(40) + 3];

            // Layer by layer, each into a tensor with the border that the next layer reads.
            let flat: Vec<_> = layers.iter().flatten().collect();
            let mut sizes = vec![hw];
            flat.iter().for_each(|(spec, _)| sizes.push(size(spec, sizes[sizes.len() - 1])));
            let layout = |i: usize| {
                let c = if i == 0 { channels } else { flat[i - 1].0.out_channels };
                let halo = flat
                    .get(i)
                    .map(|(spec, _)| Conv::source_halo(spec, batch, sizes[i], sizes[i + 1]))
                    .unwrap_or_default();
                Blocked::new(batch, c, sizes[i][0], sizes[i][1], halo, isa.lanes())
            };
            let input = noise.values(batch * channels * hw[0] * hw[1]);
            let first = layout(0);
            let mut source = vec![0.0; first.len()];
            for (i, value) in input.iter().enumerate() {
                let (x, y, c) = (i % hw[1], i / hw[1] % hw[0], i / (hw[0] * hw[1]));
                let (n, c) = (c / channels, c % channels);
                source[first.offset(n, c / isa.lanes(), y as isize, x as isize) + c % isa.lanes()] = *value;
            }
            let chain_source = if planes { input.clone() } else { source.clone() };
            for (i, (spec, numbers)) in flat.iter().enumerate() {
                let to = layout(i + 1);
                let mut target = vec![0.0; to.len()];
                if planes && i == 0 {
                    let conv = FirstConv::new(isa, spec, &params(numbers), hw, to, &PackCache::default()).unwrap();
                    conv.run(&input, &mut target);
                } else {
                    let cache = PackCache::default();
                    Conv::new(isa, spec, &params(numbers), layout(i), None, to, &cache).run(&source, None, &mut target);
                }
                source = target;
            }

            let numbers: Vec<Vec<_>> = layers.iter().map(|l| l.iter().map(|(s, n)| (s, params(n))).collect()).collect();
            let mut at = 0;
            let (mut layers, mut results) = (vec![], vec![]);
            for (i, pair) in numbers.iter().enumerate() {
                at += pair.len();
                let layer = |i: usize| (pair[i].0, &pair[i].1);
                layers.push(match pair.len() {
                    1 if planes && i == 0 => ChainLayer::First(layer(0)),
                    1 => ChainLayer::Conv(layer(0)),
                    _ => ChainLayer::Separable([layer(0), layer(1)]),
                });
                results.push([pair[pair.len() - 1].0.out_channels, sizes[at][0], sizes[at][1]]);
            }
            let from = if planes { ChainSource::Planes(hw) } else { ChainSource::Blocked(first) };
            let to = layout(flat.len());
            let chain = Chain::new(isa, &layers, &results, from, to, &PackCache::default()).unwrap();
            let mut target = vec![0.0; to.len()];
            pools[round as usize % 2].install(|| chain.run(&chain_source, &mut target));
            for n in 0..batch {
                for (c, y) in (0..to.c).flat_map(|c| (0..to.h).map(move |y| (c, y))) {
                    for x in 0..to.w {
                        let at = to.offset(n, c / to.lanes, y as isize, x as isize) + c % to.lanes;
                        let (got, want) = (target[at], source[at]);
                        let close = (got - want).abs() <= 2e-3 * (1.0 + want.abs());
                        assert!(close, "{isa:?}, round {round}, {n} {c} {y} {x}: {got} for {want}");
                    }
                }
            }
        }
    }
}
