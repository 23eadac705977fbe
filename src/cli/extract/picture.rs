//! Analyzes inputs and makes records. A failed picture does not affect the others.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::super::inputs::Input;
use super::record::Record;
use crate::analyzer::{AnalyzeError, AnalyzeOptions, Face, FaceAnalyzer, ImageFaces};
use crate::image::{DecodeError, DecodeLimits, RgbImage, decode};

/// Maximum bytes of an input.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The networks and options of a run.
pub(super) struct Extractor {
    pub analyzer: FaceAnalyzer,
    pub options: AnalyzeOptions,
    pub limits: DecodeLimits,
}

/// The reason why a picture failed. The messages are part of the output.
#[derive(Debug, thiserror::Error)]
pub(super) enum PictureError {
    #[error("cannot read: {0}")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Analyze(#[from] AnalyzeError),
    #[error("no result")]
    NoResult,
    #[error("the networks returned values that are not finite for this picture")]
    NotFinite,
    #[error("internal error in this picture; please report it")]
    Panic,
}

/// The faces of a picture, without embeddings at first.
type Located = Result<ImageFaces, PictureError>;

impl Extractor {
    /// Reads, decodes and analyzes inputs into one record each. The faces of all inputs are embedded in common batches.
    ///
    /// Until then only the crops of a picture are kept, not its pixels. Never panics: errors are in the records.
    pub fn extract(&self, inputs: &[Input]) -> Vec<Record> {
        let mut pictures: Vec<(Located, f64)> = inputs.iter().map(|input| timed(|| self.locate(input))).collect();
        if self.options.embedding {
            self.embed(&mut pictures);
        }
        let record = |(input, (result, took_ms)): (&Input, (Located, f64))| match result.and_then(finite) {
            Ok(found) => Record::found(input.name(), took_ms, found),
            Err(error) => Record::failed(input.name(), took_ms, error.to_string()),
        };
        inputs.iter().zip(pictures).map(record).collect()
    }

    fn locate(&self, input: &Input) -> Located {
        let bytes = input.read(MAX_FILE_BYTES).map_err(PictureError::Read)?;
        let image = decode(&bytes, &self.limits)?;
        drop(bytes);
        let options = AnalyzeOptions { embedding: false, keep_crops: self.options.embedding, ..self.options.clone() };
        let mut analysis = self.analyzer.analyze(&[image], &options)?;
        analysis.images.pop().ok_or(PictureError::NoResult)
    }

    /// Embeds the faces of all pictures at once; if that fails, picture by picture.
    fn embed(&self, pictures: &mut [(Located, f64)]) {
        let mut faces: Vec<&mut Face> = pictures.iter_mut().flat_map(|(p, _)| p).flat_map(|p| &mut p.faces).collect();
        let total = faces.len();
        let (result, took_ms) = timed(|| self.embed_faces(&mut faces));
        if result.is_ok() {
            for (picture, spent) in pictures {
                let faces = picture.as_ref().map_or(0, |p| p.faces.len());
                *spent += took_ms * faces as f64 / total.max(1) as f64;
            }
            return;
        }
        for (picture, spent) in pictures {
            let Ok(found) = picture else { continue };
            let (result, took_ms) = timed(|| self.embed_faces(&mut found.faces.iter_mut().collect::<Vec<_>>()));
            *spent += took_ms;
            if let Err(error) = result {
                *picture = Err(error);
            }
        }
    }

    fn embed_faces(&self, faces: &mut [&mut Face]) -> Result<(), PictureError> {
        let crops: Vec<RgbImage> = faces.iter().filter_map(|face| face.crop.clone()).collect();
        let embeddings = self.analyzer.embed(&crops)?;
        for (face, embedding) in faces.iter_mut().zip(embeddings) {
            face.embedding = Some(embedding);
        }
        Ok(())
    }
}

/// The result of `work` and its time in milliseconds. A panic, which is a defect of this program, is an error.
fn timed<R>(work: impl FnOnce() -> Result<R, PictureError>) -> (Result<R, PictureError>, f64) {
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(PictureError::Panic));
    (result, started.elapsed().as_secs_f64() * 1e3)
}

/// Errs if a number is not finite: JSON cannot represent it.
fn finite(found: ImageFaces) -> Located {
    let fine = |face: &Face| {
        let mut numbers = face.bbox.iter().chain(face.landmarks.as_flattened());
        let embedding = face.embedding.as_ref();
        numbers.all(|v| v.is_finite())
            && embedding.is_none_or(|e| e.norm.is_finite() && e.vector.iter().all(|v| v.is_finite()))
    };
    match found.faces.iter().all(fine) {
        true => Ok(found),
        false => Err(PictureError::NotFinite),
    }
}
