//! Comparison of a face with the same face in a result of InsightFace-REST.

use ifr_faces::analyzer::Face;
use ifr_faces::recognize::Embedding;
use serde::Deserialize;

const MAX_PIXELS: f32 = 1.0;
/// Maximum difference of detection scores. Faces within this distance of the threshold may be missing or additional.
pub const MAX_SCORE_DIFFERENCE: f32 = 0.02;
const MIN_COSINE: f32 = 0.999;
/// Maximum difference of the lengths of embeddings, relative to the reference.
const MAX_NORM_DIFFERENCE: f32 = 0.02;
const MAX_YEARS: f32 = 3.0;

/// A face in a result of InsightFace-REST. Coordinates are pixels of the picture.
#[derive(Deserialize)]
pub struct ReferenceFace {
    pub bbox: [f32; 4],
    pub landmarks: [[f32; 2]; 5],
    pub prob: f32,
    /// Length of the embedding before normalization.
    norm: Option<f32>,
    /// The embedding, of unit length.
    vec: Option<Vec<f32>>,
    gender: Option<u8>,
    age: Option<u32>,
}

/// Maximum difference of the coordinates of two boxes, in pixels.
pub fn box_distance(face: &Face, reference: &ReferenceFace) -> f32 {
    max_difference(&face.bbox, &reference.bbox)
}

fn max_difference<'a>(a: impl IntoIterator<Item = &'a f32>, b: impl IntoIterator<Item = &'a f32>) -> f32 {
    a.into_iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The largest differences of the compared faces, and the number of comparisons.
#[derive(Debug, Default)]
pub struct Differences {
    pub faces: usize,
    pub embeddings: usize,
    pub ages: usize,
    pixels: f32,
    score: f32,
    /// 1 - cosine.
    cosine: f32,
    /// Relative to the reference.
    norm: f32,
    wrong_genders: usize,
    years: f32,
}

impl Differences {
    pub fn add(&mut self, face: &Face, reference: &ReferenceFace) {
        let raise = |max: &mut f32, value: f32| *max = max.max(value);
        self.faces += 1;
        raise(&mut self.pixels, box_distance(face, reference));
        let landmarks = max_difference(face.landmarks.as_flattened(), reference.landmarks.as_flattened());
        raise(&mut self.pixels, landmarks);
        raise(&mut self.score, (face.prob - reference.prob).abs());
        if let (Some(vector), Some(norm)) = (&reference.vec, reference.norm) {
            let embedding = face.embedding.as_ref().expect("the recognizer is configured");
            let expected = Embedding::from_raw(vector.as_slice().into());
            raise(&mut self.cosine, 1.0 - embedding.similarity(&expected).expect("embeddings of the same length"));
            raise(&mut self.norm, (embedding.norm - norm).abs() / norm);
            self.embeddings += 1;
        }
        if let (Some(gender), Some(age)) = (reference.gender, reference.age) {
            self.wrong_genders += usize::from(face.gender != Some(gender));
            raise(&mut self.years, face.age.expect("the gender and age network is configured").abs_diff(age) as f32);
            self.ages += 1;
        }
    }

    /// True if all differences are within the tolerances of the numerical contract.
    pub fn is_parity(&self) -> bool {
        self.pixels <= MAX_PIXELS
            && self.score <= MAX_SCORE_DIFFERENCE
            && self.cosine <= 1.0 - MIN_COSINE
            && self.norm <= MAX_NORM_DIFFERENCE
            && self.wrong_genders == 0
            && self.years <= MAX_YEARS
    }
}
