//! Common parts of attribute networks: a fixed square input, one row of values for each face, batches.

use std::sync::Arc;

use rayon::prelude::*;

use super::{AttributeError, FaceView};
use ifr_engine::{EngineError, Network, Plan};

/// Order of an input's axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PixelLayout {
    /// Batch, color, row, column.
    Planar,
    /// Batch, row, column, color.
    Interleaved,
}

/// Properties of the graph of an attribute network.
pub(super) struct Expected {
    /// Name of the kind, for messages.
    pub what: &'static str,
    /// Expected shapes in words, for messages.
    pub shapes: &'static str,
    pub layout: PixelLayout,
    /// Side of the input in pixels if the graph does not fix it.
    pub side: usize,
    /// Valid lengths of a row.
    pub values: &'static [usize],
}

/// A network with a fixed input size and one row of output for each face.
pub(super) struct FaceNetwork {
    network: Network,
    layout: PixelLayout,
    side: usize,
    values: usize,
    batch: usize,
}

impl FaceNetwork {
    /// Prepares `network` for batches of up to `batch` faces. An error if it does not fit `expected`.
    pub fn new(network: Network, expected: &Expected, batch: usize) -> Result<FaceNetwork, AttributeError> {
        let declared = network.input().shape;
        let refuse = |found: Vec<Vec<usize>>| AttributeError::Shapes {
            name: network.name().into(),
            what: expected.what,
            expected: expected.shapes,
            input: declared.clone(),
            found,
        };
        let (height, width, colors) = match (expected.layout, declared.as_slice()) {
            (PixelLayout::Planar, &[_, c, h, w]) | (PixelLayout::Interleaved, &[_, h, w, c]) => (h, w, c),
            _ => return Err(refuse(vec![])),
        };
        let side = height.or(width).unwrap_or(expected.side);
        if colors.is_some_and(|c| c != 3) || width.is_some_and(|w| w != side) || !(16..=1024).contains(&side) {
            return Err(refuse(vec![]));
        }
        let layout = expected.layout;
        let single = network.plan(&shape(layout, 1, side))?;
        let [output] = single.output_shapes() else { return Err(refuse(single.output_shapes().to_vec())) };
        let values = output.iter().product::<usize>();
        if output.first() != Some(&1) || !expected.values.contains(&values) {
            return Err(refuse(single.output_shapes().to_vec()));
        }
        let batches = || {
            let probe = network.plan(&shape(layout, 2, side));
            probe.is_ok_and(|p| {
                p.output_shapes().first().is_some_and(|s| s[0] == 2 && s.iter().product::<usize>() == 2 * values)
            })
        };
        let batch = if batch > 1 && batches() { batch } else { 1 };
        Ok(FaceNetwork { layout, side, values, batch, network })
    }

    pub fn name(&self) -> &str {
        self.network.name()
    }

    /// Side of the input in pixels.
    pub fn side(&self) -> u32 {
        self.side as u32
    }

    /// Length of a row.
    pub fn values(&self) -> usize {
        self.values
    }

    pub fn normalizes_input(&self) -> bool {
        self.network.normalizes_input()
    }

    /// Runs the network. Returns one row for each face, in their order. `fill` writes the input of one face.
    pub fn run(
        &self,
        faces: &[FaceView],
        fill: impl Fn(&FaceView, &mut [f32]) + Sync,
    ) -> Result<Vec<Vec<f32>>, AttributeError> {
        let mut rows = Vec::with_capacity(faces.len());
        for chunk in faces.chunks(self.batch) {
            match self.plan(chunk.len()) {
                Ok(plan) => self.run_batch(&plan, chunk, &fill, &mut rows)?,
                // Preparing another batch size reads the file, which may have changed. Single faces still work.
                Err(_) if chunk.len() > 1 => {
                    let single = self.plan(1)?;
                    chunk.chunks(1).try_for_each(|face| self.run_batch(&single, face, &fill, &mut rows))?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rows)
    }

    fn plan(&self, batch: usize) -> Result<Arc<Plan>, EngineError> {
        self.network.plan(&shape(self.layout, batch, self.side))
    }

    fn run_batch(
        &self,
        plan: &Plan,
        faces: &[FaceView],
        fill: &(impl Fn(&FaceView, &mut [f32]) + Sync),
        rows: &mut Vec<Vec<f32>>,
    ) -> Result<(), AttributeError> {
        let length = 3 * self.side * self.side;
        let mut input = vec![0f32; faces.len() * length];
        faces.par_iter().zip(input.par_chunks_exact_mut(length)).for_each(|(face, input)| fill(face, input));
        let outputs = plan.run(plan.view(&input)?)?;
        let values = outputs.first().and_then(|t| t.as_slice()).unwrap_or_default();
        rows.extend(values.chunks_exact(self.values).map(<[f32]>::to_vec));
        Ok(())
    }
}

fn shape(layout: PixelLayout, batch: usize, side: usize) -> [usize; 4] {
    match layout {
        PixelLayout::Planar => [batch, 3, side, side],
        PixelLayout::Interleaved => [batch, side, side, 3],
    }
}
