//! A depthwise convolution fused with the 1x1 convolution that reads its result. Both are computed in bands of rows, so
//! the map between them stays in the cache.
//!
//! Networks of the MobileNet family consist of such pairs. On large maps, writing and reading the map between them
//! would take as long as computing it.

use crate::kernels::conv::Conv;
use crate::kernels::conv::direct::{Direct, Lattice};
use crate::kernels::conv::spec::{ConvParams, ConvSpec};
use crate::kernels::conv::strip::Strip;
use crate::kernels::conv::weights::pack_direct;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::table::{Kernels, kernels};
use crate::layout::blocked::{Blocked, Halo};
use crate::layout::pack::{PackCache, block_segments};
use crate::run::parallel;
use crate::run::parallel::SharedPtr;
use crate::simd::Isa;

/// Maximum number of floats of a band between the two convolutions: a part of the second-level cache.
const MAX_BAND_FLOATS: usize = 48 << 10;

/// Both convolutions, with packed weights. Several threads can run it at the same time.
pub struct Separable {
    depthwise: Conv,
    pointwise: Direct,
    epilogue: Epilogue,
    kernels: &'static Kernels,
    /// Layout of one band between the two convolutions.
    between: Blocked,
    residual: Option<Blocked>,
    target: Blocked,
    flops: u64,
}

impl Separable {
    /// Whether both can be fused: a depthwise convolution, and a 1x1 convolution without stride, padding and groups.
    pub fn fits(depthwise: &ConvSpec, pointwise: &ConvSpec) -> bool {
        let plain = pointwise.kernel == [1, 1] && pointwise.stride == [1, 1] && pointwise.pad == Halo::default();
        depthwise.is_depthwise() && plain && pointwise.groups == 1 && depthwise.out_channels == pointwise.in_channels
    }

    /// Packs the weights of both. `source` must have the halo of the depthwise convolution. The 1x1 convolution adds
    /// `residual`.
    pub fn new(
        isa: Isa,
        [depthwise_spec, pointwise_spec]: [&ConvSpec; 2],
        [depthwise, pointwise]: [&ConvParams; 2],
        source: Blocked,
        residual: Option<Blocked>,
        target: Blocked,
        cache: &PackCache,
    ) -> Separable {
        let kernels = kernels(isa);
        let lanes = kernels.lanes;
        let (inputs, outputs) = (pointwise_spec.in_channels, pointwise_spec.out_channels);
        let row = Blocked::new(1, inputs, 1, target.w, Halo::default(), lanes);
        let rows = (MAX_BAND_FLOATS / row.len().max(1)).clamp(1, target.h.max(1));
        let between = Blocked { h: rows, ..row };
        let whole = Blocked { n: target.n, h: target.h, ..row };
        let packed = cache.get(pointwise.layer, "direct", || pack_direct(pointwise.weights, inputs, outputs, 1, lanes));
        let lattice = Lattice {
            rows: target.h,
            columns: target.w,
            input_row: between.row_stride(),
            input_step: lanes,
            output_row: target.row_stride(),
            output_step: lanes,
            first_output: target.offset(0, 0, 0, 0),
        };
        let segments = block_segments(inputs, lanes, between.block_stride(), &[0]);
        Separable {
            depthwise: Conv::by_rows(isa, depthwise_spec, depthwise, source, whole, cache),
            pointwise: Direct::new(kernels, packed, segments, 0, &target, residual, 0, lattice),
            epilogue: Epilogue::new(pointwise.bias, pointwise.activation, target.blocks() * lanes),
            kernels,
            between,
            residual,
            target,
            flops: [depthwise_spec, pointwise_spec].iter().map(|s| s.flops(target.n, target.h, target.w)).sum(),
        }
    }

    /// Multiplications and additions of the direct algorithm.
    pub fn flops(&self) -> u64 {
        self.flops
    }

    /// See [`Conv::run`].
    pub fn run(&self, source: &[f32], residual: Option<&[f32]>, target: &mut [f32]) {
        assert!(target.len() >= self.target.len());
        let residual = residual.map_or(std::ptr::null(), |r| {
            assert!(r.len() >= self.residual.map_or(usize::MAX, |b| b.len()));
            r.as_ptr()
        });
        let (out, residual) = (SharedPtr(target.as_mut_ptr()), SharedPtr(residual.cast_mut()));
        let mut rows = self.between.h;
        // Four bands for each thread.
        if parallel::threads() > 1 {
            rows = rows.min(self.target.h.div_ceil(4 * parallel::threads())).max(1);
        }
        let bands = self.target.h.div_ceil(rows);
        parallel::parallel_for(self.target.n * bands, |task| {
            let (n, first) = (task / bands, task % bands * rows);
            let rows = first..(first + rows).min(self.target.h);
            self.band(
                &Strip { source, source_image: n, source_first: 0, out, out_image: n, out_first: 0, rows },
                residual,
            );
        });
    }

    /// Computes the rows of a strip on this thread. The layouts given to [`Separable::new`] may be strips.
    pub(crate) fn rows(&self, strip: &Strip) {
        for first in strip.rows.clone().step_by(self.between.h) {
            let rows = first..(first + self.between.h).min(strip.rows.end);
            self.band(&Strip { rows, ..*strip }, SharedPtr(std::ptr::null_mut()));
        }
    }

    /// Computes the rows of `strip`, at most one band.
    fn band(&self, strip: &Strip, residual: SharedPtr) {
        parallel::with_scratch(self.between.len(), |between| {
            let inner = SharedPtr(between.as_mut_ptr());
            let within = |y: usize| (y - strip.rows.start) as isize;
            for block in 0..self.between.blocks() {
                for y in strip.rows.clone() {
                    let row = inner.at(self.between.offset(0, block, within(y), 0));
                    let top = self.depthwise.spec().rows_read(&(y..y + 1)).start - strip.source_first;
                    let (source, image) = (strip.source, strip.source_image);
                    self.depthwise.depthwise_row(source, image, block, top, std::ptr::null(), row);
                }
            }
            for y in strip.rows.clone() {
                let input = &between[self.between.offset(0, 0, within(y), 0)..];
                let (image, row) = (strip.out_image, strip.out_row(y));
                self.pointwise.run_row(self.kernels, &self.epilogue, input, residual, strip.out, image, row);
            }
        });
    }
}
