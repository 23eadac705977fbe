//! Convolutions: selection of the algorithm and packing of weights.

pub(crate) mod chain;
pub(crate) mod deconv;
pub(crate) mod depthwise;
pub(crate) mod direct;
pub(crate) mod first;
pub(crate) mod separable;
pub(crate) mod spec;
pub(crate) mod strip;
pub(crate) mod weights;
pub(crate) mod winograd;

use std::sync::Arc;

use self::depthwise::DepthwiseRow;
use self::direct::{Direct, Lattice};
use self::spec::{ConvParams, ConvSpec};
use self::strip::Strip;
use self::weights::{add_shifted_input, pack_direct, ungrouped};
use self::winograd::Winograd;
use crate::kernels::activation::SmoothRow;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::{Kernels, kernels};
use crate::layout::aligned::Aligned;
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::{PackCache, block_segments};
use crate::run::parallel;
use crate::run::parallel::SharedPtr;
use crate::simd::Isa;

/// Algorithm of a convolution with its packed weights.
enum Algorithm {
    Direct(Direct),
    Winograd(Winograd),
    Depthwise(Arc<Aligned>),
}

/// A convolution between tensors of fixed shapes, with packed weights. Several threads can run it at the same time.
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
    /// The border that [`Conv::run`] reads around each of `batch` sources of `in_hw` pixels for targets of `out_hw`
    /// pixels.
    ///
    /// The border must contain the negative input shift of each channel ([`ConvParams::input_shift`]), or zeros without
    /// input shift. Algorithms that compute whole tiles read more than the padding.
    pub fn source_halo(spec: &ConvSpec, batch: usize, in_hw: [usize; 2], out_hw: [usize; 2]) -> Halo {
        if let Some(m) = Winograd::tile(spec, batch, out_hw) {
            return Winograd::source_halo(spec, m, in_hw, out_hw);
        }
        Halo {
            top: spec.pad.top,
            left: spec.pad.left,
            bottom: spec.overhang(0, out_hw[0], in_hw[0]),
            right: spec.overhang(1, out_hw[1], in_hw[1]),
        }
    }

    /// Selects the algorithm and packs the weights. `source` must have at least the halo of [`Conv::source_halo`].
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

    /// A convolution for [`Conv::rows`]. Its layouts may be strips.
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
            // Strips have no border at the top; the caller of `rows` passes the first row of the input.
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

    /// Whether the convolution of `batch` maps to `out_hw` pixels is fastest row by row.
    pub(crate) fn is_rowwise(spec: &ConvSpec, batch: usize, out_hw: [usize; 2]) -> bool {
        Winograd::tile(spec, batch, out_hw).is_none()
    }

    /// Geometry of the convolution.
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

    /// Multiplications and additions of the direct algorithm.
    pub fn flops(&self) -> u64 {
        self.spec.flops(self.target.n, self.target.h, self.target.w)
    }

    /// Runs on all members of the team. The slices must have the lengths of the layouts given to [`Conv::new`], and the
    /// halo of the source must be filled. The halo of the target is not written.
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
        let out = SharedPtr(target.as_mut_ptr());
        let residual = SharedPtr(residual.cast_mut());
        let height = self.target.h;
        let threads = parallel::threads();
        let rows = if threads == 1 { height } else { height.div_ceil(8 * threads) }.max(1);
        let bands = height.div_ceil(rows);
        parallel::parallel_for(self.target.n * bands, |task| {
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

    /// Computes the rows of a strip on this thread.
    pub(crate) fn rows(&self, strip: &Strip) {
        for y in strip.rows.clone() {
            let top = self.spec.rows_read(&(y..y + 1)).start - strip.source_first;
            match &self.algorithm {
                Algorithm::Direct(direct) => {
                    let left = -(self.spec.pad.left as isize);
                    let input = &strip.source[self.source.offset(strip.source_image, 0, top, left)..];
                    let none = SharedPtr(std::ptr::null_mut());
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
                Algorithm::Winograd(_) => unreachable!("Winograd computes whole tiles"),
            }
        }
    }

    /// Computes one row of one block of a depthwise convolution into `out`. `top` is the first row of the source that
    /// it reads, `residual` the row to add, or null.
    pub(crate) fn depthwise_row(
        &self,
        source: &[f32],
        n: usize,
        block: usize,
        top: isize,
        residual: *const f32,
        out: *mut f32,
    ) {
        let Algorithm::Depthwise(weights) = &self.algorithm else { unreachable!("not a depthwise convolution") };
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
            rectifier: self.epilogue.rectifier,
            residual,
            residual_step: lanes,
            output: out,
            output_step: lanes,
            pixels: self.target.w,
        };
        // SAFETY: the layouts fit the slices, and `out` has memory for a row.
        unsafe { (self.kernels.depthwise)(&row) };
        if let Some(activation) = self.epilogue.smooth {
            let row = SmoothRow { values: out, len: self.target.w * lanes, activation };
            // SAFETY: the row that was just written.
            unsafe { (self.kernels.smooth)(&row) };
        }
    }
}

/// Offsets of the taps from the top left tap of a pixel.
fn tap_offsets(spec: &ConvSpec, source: &Blocked) -> Vec<usize> {
    let [kh, kw] = spec.kernel;
    let at = |ky: usize, kx: usize| ky * spec.dilation[0] * source.row_stride() + kx * spec.dilation[1] * source.lanes;
    (0..kh).flat_map(|ky| (0..kw).map(move |kx| at(ky, kx))).collect()
}
