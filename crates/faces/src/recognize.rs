//! Face recognizers: aligned crops in, embeddings out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use image::RgbImage;
use ndarray::{Array1, ArrayView1};
use rayon::prelude::*;

use crate::align::CROP_SIDE;
use crate::image::Normalization;
use crate::scratch::Scratch;
use ifr_engine::{EngineError, Network, Plan};

/// The embedding of a face. The cosine of two embeddings measures the similarity of the faces.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Euclidean norm of the network's output; small for faces of low quality.
    pub norm: f32,
    /// The output divided by its norm; all zeros if the output is all zeros. Contiguous.
    pub vector: Array1<f32>,
}

impl Embedding {
    /// The embedding for the output `raw` of a network.
    pub fn from_raw(raw: ArrayView1<f32>) -> Embedding {
        let norm = raw.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        Embedding { norm: norm as f32, vector: raw.iter().map(|&v| (f64::from(v) * scale) as f32).collect() }
    }

    /// Cosine of the angle between two embeddings of the same network, -1 to 1.
    ///
    /// # Errors
    ///
    /// If the embeddings differ in dimension, or an embedding is all zeros or has numbers that are not finite.
    pub fn similarity(&self, other: &Embedding) -> Result<f32, SimilarityError> {
        if self.vector.len() != other.vector.len() {
            return Err(SimilarityError::Dimensions(self.vector.len(), other.vector.len()));
        }
        if !self.norm.is_normal() || !other.norm.is_normal() {
            return Err(SimilarityError::NoDirection);
        }
        let cosine: f64 = self.vector.iter().zip(&other.vector).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        Ok(cosine.clamp(-1.0, 1.0) as f32)
    }
}

/// Failure to compare two embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimilarityError {
    /// The embeddings differ in dimension, so they come from different networks.
    #[error("embeddings of {0} and {1} numbers cannot be compared: they come from different networks")]
    Dimensions(usize, usize),
    /// An embedding is all zeros or has numbers that are not finite.
    #[error("an embedding must hold finite numbers that are not all zero")]
    NoDirection,
}

/// Training framework of a recognizer; determines the normalization of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecognizerKind {
    /// PyTorch ArcFace and relatives: RGB, -1 to 1.
    ArcfaceTorch,
    /// MXNet ArcFace: RGB, 0 to 255, normalized inside the graph.
    ArcfaceMxnet,
    /// AdaFace: BGR, -1 to 1.
    Adaface,
}

impl RecognizerKind {
    /// Conversion of crops to the network's input.
    pub fn normalization(self) -> Normalization {
        match self {
            RecognizerKind::ArcfaceTorch => Normalization::rgb(127.5, 127.5),
            RecognizerKind::ArcfaceMxnet => Normalization::NONE,
            RecognizerKind::Adaface => Normalization::bgr(127.5, 127.5),
        }
    }
}

/// Valid dimensions of an embedding.
const DIMENSIONS: RangeInclusive<usize> = 16..=4096;

/// Failure to load or run a recognizer.
#[derive(Debug, thiserror::Error)]
pub enum RecognizeError {
    /// The engine cannot load or run the network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The graph does not output one embedding for a crop.
    #[error(
        "{name}: not a recognizer: expected one output of 1 x D values for an aligned crop, D from {} to {}, found {found:?}",
        DIMENSIONS.start(), DIMENSIONS.end()
    )]
    Outputs {
        /// Name of the network.
        name: String,
        /// Shapes of the outputs.
        found: Vec<Vec<usize>>,
    },
    /// The input of the network does not have the size of aligned crops.
    #[error(
        "{name}: not a recognizer: it takes pictures of {found}x{found}, and aligned crops of faces are {}x{}",
        CROP_SIDE,
        CROP_SIDE
    )]
    Side {
        /// Name of the network.
        name: String,
        /// Side of the input, in pixels.
        found: usize,
    },
    /// A crop does not have the size of the network's input.
    #[error("{name}: expected crops of {expected}x{expected} pixels, got {width}x{height}")]
    CropSize {
        /// Name of the network.
        name: String,
        /// Side of the input, in pixels.
        expected: u32,
        /// Width of the crop in pixels.
        width: u32,
        /// Height of the crop in pixels.
        height: u32,
    },
}

/// A face recognizer. `&self` methods may run on several threads at once.
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
    /// Prepares `network` for batches of up to `batch` faces. Default of `kind`: MXNet for a graph that normalizes its
    /// input, else PyTorch ArcFace.
    ///
    /// # Errors
    ///
    /// If the network does not map an aligned crop to one embedding.
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

    /// Training framework of the network.
    pub fn kind(&self) -> RecognizerKind {
        self.kind
    }

    /// Maximum batch size in faces.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Dimension of the embeddings.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Embeddings of aligned crops, in their order.
    ///
    /// # Errors
    ///
    /// If a crop has the wrong size or the engine fails.
    pub fn embed(&self, crops: &[&RgbImage]) -> Result<Vec<Embedding>, RecognizeError> {
        if let Some(odd) = crops.iter().find(|c| c.dimensions() != (self.side, self.side)) {
            let (width, height) = odd.dimensions();
            return Err(RecognizeError::CropSize { name: self.name.clone(), expected: self.side, width, height });
        }
        let mut embeddings = Vec::with_capacity(crops.len());
        for chunk in crops.chunks(self.batch) {
            match self.plan(chunk.len()) {
                Ok(plan) => embeddings.extend(self.embed_batch(&plan, chunk)?),
                // Preparing another batch size reads the file, which may have changed. Single faces still work.
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
        Ok(raw.chunks_exact(self.dimension).map(|values| Embedding::from_raw(ArrayView1::from(values))).collect())
    }

    fn plan(&self, batch: usize) -> Result<Arc<Plan>, RecognizeError> {
        let side = self.side as usize;
        Ok(self.network.plan(&[batch, 3, side, side])?)
    }
}

/// Whether the graph supports batches.
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
    fn raw_outputs_are_split_into_norm_and_unit_vector() {
        let embedding = Embedding::from_raw(ArrayView1::from(&[3.0, 0.0, -4.0]));
        assert_eq!(embedding.norm, 5.0);
        assert_eq!(embedding.vector.as_slice(), Some(&[0.6, 0.0, -0.8][..]));
        assert!((embedding.similarity(&embedding).unwrap() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn embeddings_without_a_common_cosine_are_refused() {
        let of = |raw: &[f32]| Embedding::from_raw(ArrayView1::from(raw));
        let (two, three) = (of(&[1.0, 0.0]), of(&[1.0, 0.0, 0.0]));
        assert_eq!(two.similarity(&three), Err(SimilarityError::Dimensions(2, 3)));
        assert_eq!(two.similarity(&of(&[0.0, 0.0])), Err(SimilarityError::NoDirection));
        assert_eq!(of(&[f32::NAN, 0.0]).similarity(&two), Err(SimilarityError::NoDirection));
        assert_eq!(two.similarity(&of(&[-2.0, 0.0])), Ok(-1.0));
    }

    #[test]
    fn an_output_of_zeros_gives_a_vector_of_zeros() {
        assert_eq!(
            Embedding::from_raw(ArrayView1::from(&[0.0, 0.0])),
            Embedding { norm: 0.0, vector: Array1::zeros(2) }
        );
    }
}
