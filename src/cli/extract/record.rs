//! One line of output: the faces of a picture.

use serde::{Deserialize, Serialize};

use crate::analyzer::{Face, ImageFaces};

/// The status of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PictureStatus {
    Ok,
    Failed,
}

/// One picture. The order of the fields is the order in which they are printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub path: String,
    pub status: PictureStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub took_ms: f64,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub faces: Vec<FaceRecord>,
}

/// One face, in pixels of the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct FaceRecord {
    pub bbox: [f32; 4],
    pub landmarks: [[f32; 2]; 5],
    pub prob: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vec: Option<Vec<f32>>,
    /// 0 female, 1 male.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_prob: Option<f32>,
    /// Probability that the face is live: neither a print nor a screen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<f32>,
}

impl Record {
    pub fn found(path: String, took_ms: f64, found: ImageFaces) -> Record {
        Record {
            path,
            status: PictureStatus::Ok,
            error: None,
            took_ms,
            width: Some(found.width),
            height: Some(found.height),
            faces: found.faces.into_iter().map(FaceRecord::from).collect(),
        }
    }

    pub fn failed(path: String, took_ms: f64, error: String) -> Record {
        Record {
            path,
            status: PictureStatus::Failed,
            error: Some(error),
            took_ms,
            width: None,
            height: None,
            faces: vec![],
        }
    }

    /// The record as a line of JSON with its line break.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

impl From<Face> for FaceRecord {
    fn from(face: Face) -> Self {
        let (norm, vec) = face.embedding.map(|e| (e.norm, e.vector.into_raw_vec_and_offset().0)).unzip();
        FaceRecord {
            bbox: face.bbox,
            landmarks: face.landmarks,
            prob: face.prob,
            norm,
            vec,
            gender: face.gender,
            age: face.age,
            mask: face.mask.map(|m| m.mask),
            mask_prob: face.mask.map(|m| m.mask_prob),
            liveness: face.liveness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_to_the_bit() {
        // Resumed runs and Parquet files are made from these lines: no bit of a number may change.
        let mut state = 7u32;
        let mut number = || loop {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(state ^ state >> 11);
            if value.is_finite() {
                return value;
            }
        };
        for _ in 0..2_000 {
            let face = FaceRecord {
                bbox: std::array::from_fn(|_| number()),
                landmarks: std::array::from_fn(|_| [number(), number()]),
                prob: number(),
                norm: Some(number()),
                vec: Some((0..16).map(|_| number()).collect()),
                gender: Some(1),
                age: Some(33),
                mask: Some(false),
                mask_prob: Some(number()),
                liveness: Some(number()),
            };
            let path = "a \"b\"\n/c".into();
            let record = Record {
                path,
                status: PictureStatus::Ok,
                error: None,
                took_ms: 1.25,
                width: Some(1),
                height: None,
                faces: vec![face],
            };
            let line = record.line().unwrap();
            assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<Record>(&line).unwrap(), record);
        }
    }

    #[test]
    fn failures_have_a_sentence_and_no_faces() {
        let line = Record::failed("x.jpg".into(), 0.5, "no picture".into()).line().unwrap();
        let expected = concat!(
            r#"{"path":"x.jpg","status":"failed","error":"no picture","took_ms":0.5,"#,
            r#""width":null,"height":null,"faces":[]}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }
}
