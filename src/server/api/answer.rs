//! From faces to the original's answers.

use crate::analyzer::{Description, Face, ImageFaces};
use crate::attributes::MaskResult;
use crate::image::RgbImage;
use crate::schedule::ImageFailure;
use crate::server::api::schema::response::{
    CropFace, CropResult, EmbedResponse, EmbeddedFace, ExtractResponse, FaceResult, ImageResult, MaskProbs, Status,
    Took,
};
use crate::server::inference::{RequestOutcome, failure_message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::{Duration, Instant};

/// OpenCV's default, which the original encodes with.
const JPEG_QUALITY: u8 = 95;

/// Which fields of a face were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `return_landmarks`
    pub landmarks: bool,
    /// `return_face_data`
    pub face_data: bool,
    /// Any of `extract_embedding`, `extract_ga` and `detect_masks`: the original then writes the fields of all three.
    pub attributes: bool,
    /// `extract_liveness`, which the original does not know
    pub liveness: bool,
}

/// The faces of one picture in the answer's shape.
pub fn image_result(image: ImageFaces, wanted: Wanted) -> ImageResult {
    let started = Instant::now();
    let scale = image.scale;
    let faces = image.faces.into_iter().enumerate().map(|(number, face)| face_result(face, number, scale, wanted));
    let faces = faces.collect();
    ImageResult { status: Status::Ok, took_ms: milliseconds(started.elapsed()), faces, traceback: None }
}

fn face_result(face: Face, number: usize, scale: f64, wanted: Wanted) -> FaceResult {
    let (norm, vec) = match face.embedding {
        Some(embedding) => (Some(embedding.norm), Some(embedding.vec)),
        None => (None, None),
    };
    let facedata = face.crop.filter(|_| wanted.face_data).and_then(|crop| jpeg(&crop).ok());
    FaceResult {
        bbox: face.bbox.map(whole),
        landmarks: wanted.landmarks.then(|| face.landmarks.map(|point| point.map(whole))),
        prob: face.prob,
        num_det: number,
        scale,
        facedata: facedata.map(|jpeg| STANDARD.encode(jpeg)),
        norm: wanted.attributes.then_some(norm),
        vec: wanted.attributes.then_some(vec),
        gender: wanted.attributes.then_some(face.gender),
        age: wanted.attributes.then_some(face.age),
        mask: wanted.attributes.then_some(face.mask.map(|m| m.mask)),
        mask_probs: wanted.attributes.then_some(face.mask.map(mask_probs)),
        liveness: wanted.liveness.then_some(face.liveness),
        size: whole(face.bbox[2] - face.bbox[0]),
    }
}

fn mask_probs(mask: MaskResult) -> MaskProbs {
    MaskProbs { mask: mask.mask_prob, no_mask: mask.no_mask_prob }
}

/// Toward zero, as NumPy's `astype(int)`.
fn whole(pixels: f32) -> i64 {
    pixels as i64
}

/// The answer of `/extract`; `reading` is what fetching took, before decoding.
pub fn extract(
    outcome: RequestOutcome<ImageResult>,
    started: Instant,
    reading: Duration,
    verbose: bool,
) -> ExtractResponse {
    let failed = |failure: ImageFailure| {
        let traceback = Some(failure_message(&failure));
        ImageResult { status: Status::Failed, took_ms: 0.0, faces: vec![], traceback }
    };
    let data = outcome.images.into_iter().map(|image| image.unwrap_or_else(failed)).collect();
    let took = Took {
        total_ms: milliseconds(started.elapsed()),
        read_imgs_ms: verbose.then(|| milliseconds(reading + outcome.decoding)),
        embed_all_ms: verbose.then(|| milliseconds(outcome.analyzing)),
    };
    ExtractResponse { took, data }
}

/// The answer of `/extract` with `embed_only`.
pub fn embed(outcome: RequestOutcome<Description>, started: Instant) -> EmbedResponse {
    let data = outcome.images.into_iter().map(crop).collect();
    EmbedResponse { took_ms: milliseconds(started.elapsed()), data, status: Status::Ok }
}

fn crop(result: Result<Description, ImageFailure>) -> CropResult {
    let Description { embedding, attributes } = match result {
        Ok(description) => description,
        Err(failure) => {
            let reason = failure_message(&failure);
            let face = CropFace::Failed { status: Status::Failed, traceback: reason.clone() };
            return CropResult { status: Status::Failed, took_ms: 0, faces: vec![face], traceback: Some(reason) };
        }
    };
    let (norm, vec) = match embedding {
        Some(embedding) => (Some(embedding.norm), Some(embedding.vec)),
        None => (None, None),
    };
    let side = i64::from(crate::align::CROP_SIDE);
    let face = EmbeddedFace {
        norm,
        vec,
        gender: attributes.gender,
        age: attributes.age,
        mask: attributes.mask.map(|m| m.mask),
        mask_probs: attributes.mask.map(mask_probs),
        bbox: [0, 0, side, side],
        size: side,
        prob: 1.0,
        status: Status::Ok,
    };
    CropResult { status: Status::Ok, took_ms: 0, faces: vec![CropFace::Embedded(face)], traceback: None }
}

/// A picture as JPEG. Errs when it is larger than that format can hold.
pub fn jpeg(picture: &RgbImage) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    picture.write_with_encoder(encoder)?;
    Ok(bytes)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognize::Embedding;

    fn some_face() -> Face {
        Face {
            bbox: [-3.7, 10.9, 50.2, 90.0],
            landmarks: [[1.9, -0.5]; 5],
            prob: 0.75,
            embedding: Some(Embedding { norm: 2.0, vec: vec![0.6, 0.8] }),
            gender: None,
            age: None,
            mask: None,
            liveness: None,
            crop: Some(RgbImage::new(112, 112)),
        }
    }

    fn keys(wanted: Wanted) -> Vec<String> {
        let face = serde_json::to_string(&face_result(some_face(), 0, 1.0, wanted)).unwrap();
        let object: serde_json::Value = serde_json::from_str(&face).unwrap();
        object.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn coordinates_are_cut_toward_zero_and_size_is_that_of_the_exact_box() {
        let wanted = Wanted { landmarks: true, face_data: false, attributes: false, liveness: false };
        let face = face_result(some_face(), 3, 0.5, wanted);
        assert_eq!(face.bbox, [-3, 10, 50, 90]);
        assert_eq!(face.landmarks.unwrap()[0], [1, 0]);
        assert_eq!((face.size, face.num_det, face.scale), (53, 3, 0.5));
    }

    #[test]
    fn attributes_come_together_or_not_at_all() {
        let none = Wanted { landmarks: false, face_data: false, attributes: false, liveness: false };
        assert_eq!(keys(none), ["bbox", "num_det", "prob", "scale", "size"]);
        let all = Wanted { landmarks: true, face_data: true, attributes: true, liveness: false };
        for name in ["landmarks", "facedata", "norm", "vec", "gender", "age", "mask", "mask_probs"] {
            assert!(keys(all).contains(&name.to_string()), "{name}");
        }
        assert!(!keys(all).contains(&"liveness".to_string()), "clients of the original get what they always got");
        assert!(keys(Wanted { liveness: true, ..none }).contains(&"liveness".to_string()));
    }
}
