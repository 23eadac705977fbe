//! Face recognisers: aligned crops in, embeddings out.

#![deny(missing_docs)]

use std::ops::RangeInclusive;
use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use crate::align::CROP_SIDE;
use crate::image::Normalization;
use crate::scratch::Scratch;
use ifr_engine::{EngineError, Network, Plan};

/// A face as a direction in space: the cosine between two says whether they are one person.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Length before normalisation; small for faces the network found hard to read.
    pub norm: f32,
    /// Unit length, unless the network gave all zeros.
    pub vec: Vec<f32>,
}

impl Embedding {
    /// Splits a network's raw output into length and direction.
    pub fn from_raw(raw: &[f32]) -> Embedding {
        let norm = raw.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        Embedding { norm: norm as f32, vec: raw.iter().map(|&v| (f64::from(v) * scale) as f32).collect() }
    }

    /// Cosine of the angle between two embeddings of the same network, -1 to 1.
    pub fn similarity(&self, other: &Embedding) -> f32 {
        self.vec.iter().zip(&other.vec).map(|(a, b)| a * b).sum()
    }
}

/// What a recogniser was trained on; fixes how its input is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecognizerKind {
    /// PyTorch ArcFace and relatives: RGB, -1 to 1.
    ArcfaceTorch,
    /// MXNet ArcFace: RGB, 0 to 255, normalised inside the graph.
    ArcfaceMxnet,
    /// AdaFace: BGR, -1 to 1.
    Adaface,
}

impl RecognizerKind {
    /// How crops are turned into the network's input.
    pub fn normalization(self) -> Normalization {
        match self {
            RecognizerKind::ArcfaceTorch => Normalization::rgb(127.5, 127.5),
            RecognizerKind::ArcfaceMxnet => Normalization::NONE,
            RecognizerKind::Adaface => Normalization::bgr(127.5, 127.5),
        }
    }
}

/// How many numbers an embedding may have; what gives fewer or more is no recogniser.
const DIMENSIONS: RangeInclusive<usize> = 16..=4096;

/// Failure to load or run a recogniser.
#[derive(Debug, thiserror::Error)]
pub enum RecognizeError {
    /// The engine cannot load or run the network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The graph does not answer a crop with one embedding.
    #[error(
        "{name}: not a recogniser: expected one output of 1 x D values for an aligned crop, D from {} to {}, found {found:?}",
        DIMENSIONS.start(), DIMENSIONS.end()
    )]
    Outputs {
        /// Of the network.
        name: String,
        /// Shapes of the outputs.
        found: Vec<Vec<usize>>,
    },
    /// The network takes pictures of another size than that of aligned crops.
    #[error(
        "{name}: not a recogniser: it takes pictures of {found}x{found}, and aligned crops of faces are {}x{}",
        CROP_SIDE,
        CROP_SIDE
    )]
    Side {
        /// Of the network.
        name: String,
        /// Side of the input, in pixels.
        found: usize,
    },
    /// Crops are not as large as the network's input.
    #[error("{name}: expected crops of {expected}x{expected} pixels, got {width}x{height}")]
    CropSize {
        /// Of the network.
        name: String,
        /// Side of the input, in pixels.
        expected: u32,
        /// Of the crop, in pixels.
        width: u32,
        /// Of the crop, in pixels.
        height: u32,
    },
}

/// A face recogniser. Shared between threads.
pub struct Recognizer {
    name: String,
    network: Network,
    kind: RecognizerKind,
    side: u32,
    dimension: usize,
    batch: usize,
    inputs: Scratch<f32>,
}

impl Recognizer {
    /// Prepares `network` for up to `batch` faces a pass. Without a `kind` it is read from the graph: one that normalises its input
    /// itself is an MXNet export, any other is taken for a PyTorch ArcFace. Errs when it takes anything but an aligned crop.
    pub fn new(network: Network, kind: Option<RecognizerKind>, batch: usize) -> Result<Recognizer, RecognizeError> {
        let name = network.name().to_owned();
        let kind = kind.unwrap_or(match network.normalizes_input() {
            true => RecognizerKind::ArcfaceMxnet,
            false => RecognizerKind::ArcfaceTorch,
        });
        let side = match network.input().shape[..] {
            [_, _, Some(h), Some(w)] if h == w => h,
            _ => CROP_SIDE as usize,
        };
        let single = network.plan(&[1, 3, side, side])?;
        let [shape] = single.output_shapes() else {
            return Err(RecognizeError::Outputs { name, found: single.output_shapes().to_vec() });
        };
        let dimension = shape.iter().product::<usize>();
        if shape.first() != Some(&1) || !DIMENSIONS.contains(&dimension) {
            return Err(RecognizeError::Outputs { name, found: single.output_shapes().to_vec() });
        }
        if side != CROP_SIDE as usize {
            return Err(RecognizeError::Side { name, found: side });
        }
        let batch = if batch > 1 && batches(&network, side, dimension) { batch } else { 1 };
        Ok(Recognizer { name, network, kind, side: side as u32, dimension, batch, inputs: Scratch::default() })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was trained as.
    pub fn kind(&self) -> RecognizerKind {
        self.kind
    }

    /// Faces in one forward pass.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Numbers in an embedding.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Embeds aligned crops, in order, as many in one forward pass as the batch size allows.
    pub fn embed(&self, crops: &[&RgbImage]) -> Result<Vec<Embedding>, RecognizeError> {
        if let Some(odd) = crops.iter().find(|c| c.dimensions() != (self.side, self.side)) {
            let (width, height) = odd.dimensions();
            return Err(RecognizeError::CropSize { name: self.name.clone(), expected: self.side, width, height });
        }
        let mut embeddings = Vec::with_capacity(crops.len());
        for chunk in crops.chunks(self.batch) {
            match self.plan(chunk.len()) {
                Ok(plan) => embeddings.extend(self.embed_batch(&plan, chunk)?),
                // Preparing another batch size reads the file, which may have been written over since: one by one still works.
                Err(_) if chunk.len() > 1 => {
                    let single = self.plan(1)?;
                    for crop in chunk.chunks(1) {
                        embeddings.extend(self.embed_batch(&single, crop)?);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(embeddings)
    }

    fn embed_batch(&self, plan: &Plan, crops: &[&RgbImage]) -> Result<Vec<Embedding>, RecognizeError> {
        let values = 3 * (self.side * self.side) as usize;
        let mut input = self.inputs.take(crops.len() * values);
        let normalization = self.kind.normalization();
        crops
            .par_iter()
            .zip(input.par_chunks_exact_mut(values))
            .for_each(|(crop, planes)| normalization.planes(crop.as_raw(), planes));
        let outputs = plan.run(plan.view(&input)?)?;
        let raw = outputs.first().and_then(|t| t.as_slice()).unwrap_or_default();
        Ok(raw.chunks_exact(self.dimension).map(Embedding::from_raw).collect())
    }

    fn plan(&self, batch: usize) -> Result<Arc<Plan>, RecognizeError> {
        let side = self.side as usize;
        Ok(self.network.plan(&[batch, 3, side, side])?)
    }
}

/// Whether the graph keeps the faces of a batch apart.
fn batches(network: &Network, side: usize, dimension: usize) -> bool {
    let probe = network.plan(&[2, 3, side, side]);
    probe.is_ok_and(|p| {
        p.output_shapes().first().is_some_and(|s| s[0] == 2 && s.iter().product::<usize>() == 2 * dimension)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_outputs_are_split_into_length_and_direction() {
        let embedding = Embedding::from_raw(&[3.0, 0.0, -4.0]);
        assert_eq!(embedding.norm, 5.0);
        assert_eq!(embedding.vec, [0.6, 0.0, -0.8]);
        assert!((embedding.similarity(&embedding) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn zeros_stay_zeros() {
        assert_eq!(Embedding::from_raw(&[0.0, 0.0]), Embedding { norm: 0.0, vec: vec![0.0, 0.0] });
    }
}
