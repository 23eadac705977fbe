//! A convolution: which algorithm, with weights packed for it.

use crate::kernels::depthwise::DepthwiseRow;
use crate::kernels::direct::{Direct, Lattice};
use crate::kernels::epilogue::Activation;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::isa::Isa;
use crate::kernels::isa::{Kernels, kernels};
use crate::kernels::strip::Strip;
use crate::kernels::winograd::Winograd;
use crate::layout::aligned::Aligned;
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::{PackCache, block_segments, pack_groups};
use crate::run::parallel;
use crate::run::parallel::Shared;
use std::ops::Range;
use std::sync::Arc;

/// Geometry of a convolution, rows before columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSpec {
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Zeros around the input.
    pub pad: Halo,
}

impl ConvSpec {
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels && self.groups == self.out_channels
    }

    /// Multiply-adds times two for an output of `n` x `h` x `w` pixels, counted as a direct convolution.
    pub fn flops(&self, n: usize, h: usize, w: usize) -> u64 {
        let taps = self.kernel[0] * self.kernel[1] * self.in_channels / self.groups;
        2 * (n * h * w * self.out_channels * taps) as u64
    }

    /// Rows of input that `rows` of output are computed from; those outside the map are padding.
    pub(crate) fn rows_read(&self, rows: &Range<usize>) -> Range<isize> {
        let above = self.pad.top as isize;
        let last = (rows.end.max(1) - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0];
        (rows.start * self.stride[0]) as isize - above..last as isize + 1 - above
    }

    /// Columns from the first padding to the last that `columns` of output are computed from.
    pub(crate) fn columns_read(&self, columns: usize) -> usize {
        (columns.max(1) - 1) * self.stride[1] + (self.kernel[1] - 1) * self.dilation[1] + 1
    }

    /// Whether the convolution of `batch` maps to `out_hw` pixels is best done row by row.
    pub(crate) fn is_rowwise(&self, batch: usize, out_hw: [usize; 2]) -> bool {
        Winograd::tile(self, batch, out_hw).is_none()
    }

    /// Rows (0) or columns (1) of input that `out` pixels of output reach, less the `input` there are and the padding before them.
    fn reach(&self, axis: usize, out: usize, input: usize) -> usize {
        let before = if axis == 0 { self.pad.top } else { self.pad.left };
        let last = (out.max(1) - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1;
        last.saturating_sub(before + input)
    }
}

/// Numbers of a convolution.
pub struct ConvParams<'a> {
    /// Names the layer in the cache of packed weights.
    pub layer: &'a str,
    /// `[out][in / groups][kernel h][kernel w]`.
    pub weights: &'a [f32],
    /// One for each output channel.
    pub bias: &'a [f32],
    /// Added to each input channel before the zero padding: a batch norm in front of a padded convolution, its scale already in the weights.
    pub input_shift: Option<&'a [f32]>,
    pub activation: &'a Activation,
}

enum Algorithm {
    Direct(Direct),
    Winograd(Winograd),
    Depthwise(Arc<Aligned>),
}

/// A convolution ready to run between tensors of fixed shapes. Immutable; may run on many threads at once.
pub struct Conv {
    spec: ConvSpec,
    kernels: &'static Kernels,
    source: Blocked,
    residual: Option<Blocked>,
    target: Blocked,
    epilogue: Epilogue,
    algorithm: Algorithm,
}

impl Conv {
    /// The border [`Conv::run`] reads around each of `batch` sources of `in_hw` pixels for targets of `out_hw`.
    ///
    /// It has to hold minus the input shift of each channel ([`ConvParams::input_shift`]), zeros when there is none. Algorithms that work on whole tiles read more than the padding.
    pub fn source_halo(spec: &ConvSpec, batch: usize, in_hw: [usize; 2], out_hw: [usize; 2]) -> Halo {
        if let Some(m) = Winograd::tile(spec, batch, out_hw) {
            return Winograd::source_halo(spec, m, in_hw, out_hw);
        }
        Halo {
            top: spec.pad.top,
            left: spec.pad.left,
            bottom: spec.reach(0, out_hw[0], in_hw[0]),
            right: spec.reach(1, out_hw[1], in_hw[1]),
        }
    }

    /// Packs the weights and chooses the algorithm. `source` must have at least the halo of [`Conv::source_halo`].
    ///
    /// `residual` is the layout of a tensor of the target's shape that is added before the activation.
    pub fn new(
        isa: Isa,
        spec: &ConvSpec,
        params: &ConvParams,
        source: Blocked,
        residual: Option<Blocked>,
        target: Blocked,
        cache: &PackCache,
    ) -> Conv {
        Self::build(isa, spec, params, source, residual, target, false, cache)
    }

    /// A convolution for [`Conv::rows`], whose layouts may hold a part of the rows.
    pub(crate) fn by_rows(
        isa: Isa,
        spec: &ConvSpec,
        params: &ConvParams,
        source: Blocked,
        target: Blocked,
        cache: &PackCache,
    ) -> Conv {
        Self::build(isa, spec, params, source, None, target, true, cache)
    }

    #[allow(clippy::too_many_arguments)]
    fn build(
        isa: Isa,
        spec: &ConvSpec,
        params: &ConvParams,
        source: Blocked,
        residual: Option<Blocked>,
        target: Blocked,
        by_rows: bool,
        cache: &PackCache,
    ) -> Conv {
        let kernels = kernels(isa);
        let lanes = kernels.lanes;
        let tile = Winograd::tile(spec, target.n, [target.h, target.w]).filter(|_| !by_rows);
        let dense;
        let weights = if spec.groups > 1 && !spec.is_depthwise() {
            dense = ungrouped(spec, params.weights);
            &dense[..]
        } else {
            params.weights
        };
        let inputs = if spec.is_depthwise() { 1 } else { spec.in_channels };
        let mut bias = params.bias.to_vec();
        if let Some(shift) = params.input_shift {
            add_shifted_input(&mut bias, weights, shift, inputs, spec);
        }
        let epilogue = Epilogue::new(&bias, params.activation, target.blocks() * lanes);
        let taps = spec.kernel[0] * spec.kernel[1];
        let algorithm = if spec.is_depthwise() {
            let packed = cache.get(params.layer, "depthwise", || {
                let mut packed = Aligned::zeros(target.blocks() * taps * lanes);
                for channel in 0..spec.out_channels {
                    for tap in 0..taps {
                        let at = (channel / lanes * taps + tap) * lanes + channel % lanes;
                        packed[at] = weights[channel * taps + tap];
                    }
                }
                packed
            });
            Algorithm::Depthwise(packed)
        } else if let Some(m) = tile {
            Algorithm::Winograd(Winograd::new(m, spec, params, &target, kernels, cache))
        } else {
            let packed = cache
                .get(params.layer, "direct", || pack_direct(weights, spec.in_channels, spec.out_channels, taps, lanes));
            let offsets = tap_offsets(spec, &source);
            let lattice = Lattice {
                rows: target.h,
                columns: target.w,
                input_row: spec.stride[0] * source.row_stride(),
                input_step: spec.stride[1] * lanes,
                output_row: target.row_stride(),
                output_step: lanes,
                first_output: target.offset(0, 0, 0, 0),
            };
            // Strips have no border above, and whoever calls for rows says where they begin.
            let above = if by_rows { 0 } else { -(spec.pad.top as isize) };
            let origin = source.offset(0, 0, above, -(spec.pad.left as isize));
            let pointwise = taps == 1 && spec.stride == [1, 1] && spec.pad == Halo::default();
            let dense_maps = [Some(source), Some(target), residual].iter().flatten().all(|b| b.halo == Halo::default());
            let lattice = if pointwise && dense_maps && !by_rows { lattice.as_one_row() } else { lattice };
            let segments = block_segments(source.c, lanes, source.block_stride(), &offsets);
            Algorithm::Direct(Direct::new(
                kernels,
                packed,
                segments,
                source.image_stride(),
                &target,
                residual,
                origin,
                lattice,
            ))
        };
        Conv { spec: spec.clone(), kernels, source, residual, target, epilogue, algorithm }
    }

    pub(crate) fn spec(&self) -> &ConvSpec {
        &self.spec
    }

    /// Name of the algorithm, for reports.
    pub fn algorithm(&self) -> &'static str {
        match (&self.algorithm, self.spec.kernel) {
            (Algorithm::Winograd(w), _) => w.name(),
            (Algorithm::Depthwise(_), _) => "depthwise",
            (Algorithm::Direct(_), [1, 1]) => "direct 1x1",
            (Algorithm::Direct(_), [3, 3]) => "direct 3x3",
            (Algorithm::Direct(_), _) => "direct",
        }
    }

    pub fn flops(&self) -> u64 {
        self.spec.flops(self.target.n, self.target.h, self.target.w)
    }

    /// Runs on rayon's current pool. The slices must have the lengths of the layouts given to [`Conv::new`], and the source's halo must be
    /// filled; the target's halo is left alone.
    pub fn run(&self, source: &[f32], residual: Option<&[f32]>, target: &mut [f32]) {
        assert!(source.len() >= self.source.len() && target.len() >= self.target.len());
        let residual = residual.map_or(std::ptr::null(), |r| {
            assert!(r.len() >= self.residual.map_or(usize::MAX, |b| b.len()));
            r.as_ptr()
        });
        match &self.algorithm {
            Algorithm::Direct(direct) => direct.run(self.kernels, &self.epilogue, source, residual, target),
            Algorithm::Winograd(winograd) => winograd.run(
                self.kernels,
                &self.epilogue,
                &self.spec,
                source,
                &self.source,
                residual,
                self.residual,
                target,
                &self.target,
            ),
            Algorithm::Depthwise(_) => self.run_depthwise(source, residual, target),
        }
    }

    fn run_depthwise(&self, source: &[f32], residual: *const f32, target: &mut [f32]) {
        let blocks = self.target.blocks();
        let out = Shared(target.as_mut_ptr());
        let residual = Shared(residual.cast_mut());
        let height = self.target.h;
        let threads = parallel::threads();
        let rows = if threads == 1 { height } else { height.div_ceil(8 * threads) }.max(1);
        let bands = height.div_ceil(rows);
        parallel::each(self.target.n * bands, |task| {
            let (n, first) = (task / bands, task % bands * rows);
            for block in 0..blocks {
                for y in first..(first + rows).min(height) {
                    let residual = match self.residual {
                        Some(layout) if !residual.0.is_null() => residual.at(layout.offset(n, block, y as isize, 0)),
                        _ => std::ptr::null_mut(),
                    };
                    // Tasks write different rows.
                    let row = out.at(self.target.offset(n, block, y as isize, 0));
                    self.depthwise_row(source, n, block, self.spec.rows_read(&(y..y + 1)).start, residual, row);
                }
            }
        });
    }

    /// Computes some rows on this thread.
    pub(crate) fn rows(&self, strip: &Strip) {
        for y in strip.rows.clone() {
            let top = self.spec.rows_read(&(y..y + 1)).start - strip.source_first;
            match &self.algorithm {
                Algorithm::Direct(direct) => {
                    let left = -(self.spec.pad.left as isize);
                    let input = &strip.source[self.source.offset(strip.source_image, 0, top, left)..];
                    let none = Shared(std::ptr::null_mut());
                    let row = strip.out_row(y);
                    direct.run_row(self.kernels, &self.epilogue, input, none, strip.out, strip.out_image, row);
                }
                Algorithm::Depthwise(_) => {
                    for block in 0..self.target.blocks() {
                        let at = self.target.offset(strip.out_image, block, strip.out_row(y) as isize, 0);
                        let (source, image) = (strip.source, strip.source_image);
                        self.depthwise_row(source, image, block, top, std::ptr::null(), strip.out.at(at));
                    }
                }
                Algorithm::Winograd(_) => unreachable!("tiles are more than a row"),
            }
        }
    }

    /// One row of one block of a depthwise convolution, to `out`, from the row `top` of the source on. `residual` is the row to add, or
    /// null.
    pub(crate) fn depthwise_row(
        &self,
        source: &[f32],
        n: usize,
        block: usize,
        top: isize,
        residual: *const f32,
        out: *mut f32,
    ) {
        let Algorithm::Depthwise(weights) = &self.algorithm else {
            unreachable!("a dense convolution has no such rows")
        };
        let (spec, lanes) = (&self.spec, self.kernels.lanes);
        let taps = spec.kernel[0] * spec.kernel[1];
        let row = DepthwiseRow {
            input: source[self.source.offset(n, block, top, -(spec.pad.left as isize))..].as_ptr(),
            row_step: spec.dilation[0] * self.source.row_stride(),
            tap_step: spec.dilation[1] * lanes,
            pixel_step: spec.stride[1] * lanes,
            kernel: spec.kernel,
            weights: weights[block * taps * lanes..].as_ptr(),
            bias: self.epilogue.bias[block * lanes..].as_ptr(),
            slope: self.epilogue.slope[block * lanes..].as_ptr(),
            limit: self.epilogue.limit,
            bend: self.epilogue.bend,
            residual,
            residual_step: lanes,
            output: out,
            output_step: lanes,
            pixels: self.target.w,
        };
        // SAFETY: the layouts were checked against the slices, and `out` has room for a row.
        unsafe { (self.kernels.depthwise)(&row) };
        if let Some(curve) = self.epilogue.curve {
            // SAFETY: the row just written.
            unsafe { (self.kernels.curve)(out, self.target.w * lanes, curve) };
        }
    }
}

/// Offsets of the taps from a pixel's top left one.
fn tap_offsets(spec: &ConvSpec, source: &Blocked) -> Vec<usize> {
    let [kh, kw] = spec.kernel;
    let at = |ky: usize, kx: usize| ky * spec.dilation[0] * source.row_stride() + kx * spec.dilation[1] * source.lanes;
    (0..kh).flat_map(|ky| (0..kw).map(move |kx| at(ky, kx))).collect()
}

/// `[group][in block][tap][channel of the block][lanes of the group]`.
pub(crate) fn pack_direct(weights: &[f32], inputs: usize, outputs: usize, taps: usize, lanes: usize) -> Aligned {
    let depth = inputs * taps;
    let mut packed = Aligned::zeros(outputs.div_ceil(lanes) * lanes * depth);
    let order: Vec<usize> = (0..inputs.div_ceil(lanes))
        .flat_map(|block| {
            let channels = block * lanes..((block + 1) * lanes).min(inputs);
            (0..taps).flat_map(move |tap| channels.clone().map(move |c| c * taps + tap))
        })
        .collect();
    pack_groups(outputs, depth, lanes, inputs.is_multiple_of(2), &mut packed, |channel, k| {
        weights[channel * depth + order[k]]
    });
    packed
}

/// The weights of a grouped convolution as those of a plain one, zeros between the groups.
fn ungrouped(spec: &ConvSpec, weights: &[f32]) -> Vec<f32> {
    let taps = spec.kernel[0] * spec.kernel[1];
    let (inputs, outputs) = (spec.in_channels / spec.groups, spec.out_channels / spec.groups);
    let mut dense = vec![0.0; spec.out_channels * spec.in_channels * taps];
    for channel in 0..spec.out_channels {
        let from = &weights[channel * inputs * taps..(channel + 1) * inputs * taps];
        let first = (channel * spec.in_channels + channel / outputs * inputs) * taps;
        dense[first..first + from.len()].copy_from_slice(from);
    }
    dense
}

/// What a constant added to the input adds to the output, border included: there the halo holds its negative.
pub(crate) fn add_shifted_input(bias: &mut [f32], weights: &[f32], shift: &[f32], inputs: usize, spec: &ConvSpec) {
    let taps = spec.kernel[0] * spec.kernel[1];
    for (channel, (bias, weights)) in bias.iter_mut().zip(weights.chunks_exact(inputs * taps)).enumerate() {
        let first = if spec.is_depthwise() { channel } else { 0 };
        let added: f64 = weights
            .chunks_exact(taps)
            .zip(&shift[first..])
            .map(|(w, s)| w.iter().map(|w| f64::from(*w)).sum::<f64>() * f64::from(*s))
            .sum();
        *bias = (f64::from(*bias) + added) as f32;
    }
}
