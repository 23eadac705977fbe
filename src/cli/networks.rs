//! The flags that choose networks, shared by the subcommands that look at pictures.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::models::Progress;
use crate::analyzer::FaceAnalyzer;
use crate::downloads::{self, FetchError, FetchOptions};
use crate::models::hash::{Hashes, sha256};
use crate::models::{DEFAULT_DETECTOR, DEFAULT_RECOGNIZER, Location, ModelError, ModelStore, Selection, embedded};

/// Which networks to use, where they are, and how large the detector's canvas is.
#[derive(Args, Clone)]
pub(super) struct NetworkArgs {
    /// Detector, by name
    #[arg(long, env = "DET_NAME", default_value = DEFAULT_DETECTOR, value_name = "NAME")]
    pub det_name: String,

    /// Recogniser, by name; None for no embeddings
    #[arg(long, env = "REC_NAME", default_value = DEFAULT_RECOGNIZER, value_name = "NAME")]
    pub rec_name: String,

    /// Directory with models as onnx/NAME/NAME.onnx; the embedded ones are used for names it lacks
    #[arg(long, env = "MODELS_DIR", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,

    /// Canvas pictures are fitted into for detection, in multiples of 32; smaller is faster and misses small faces
    #[arg(long, env = "MAX_SIZE", default_value = "640,640", value_name = "W,H", value_parser = parse_size)]
    pub max_size: (usize, usize),
}

impl NetworkArgs {
    /// Loads the detector, the recogniser when embeddings are wanted and one is named, and the attribute networks of `attributes`.
    /// Fetches what is missing and says so.
    pub fn load_with(&self, embedding: bool, batch: usize, attributes: Selection) -> Result<FaceAnalyzer, FetchError> {
        let store = ModelStore::new(self.models_dir.clone());
        let selection = Selection {
            detector: self.det_name.clone(),
            recognizer: named(&self.rec_name).filter(|_| embedding).map(str::to_owned),
            canvas: self.max_size,
            face_batch: batch,
            ..attributes
        };
        let on_event = Arc::new(Progress::default().listener());
        let on_warning = Arc::new(|warning: &str| eprintln!("warning: {warning}"));
        let options = FetchOptions { on_event, on_warning, ..FetchOptions::from_environment() };
        downloads::ensure(&store, &selection.names(), &options)?;
        Ok(store.load(&selection)?)
    }

    /// Which network it is that goes by a name: the SHA-256 of its file, and what it is declared to be if that is said. With the same
    /// identity it gives the same results.
    pub fn identity(&self, name: &str) -> Result<String, ModelError> {
        let store = ModelStore::new(self.models_dir.clone());
        let hash = match (store.locate(name)?, embedded(name)) {
            (Location::Installed(path), _) => {
                let hashes = File::open(&path).and_then(Hashes::of);
                hashes.map_err(|source| ModelError::Read { path, source })?.sha256
            }
            (_, Some(bytes)) => sha256(bytes),
            _ => return Err(ModelError::Broken { name: name.into() }),
        };
        let function = store.entry(name)?.function.map_or_else(String::new, |function| format!(", {function}"));
        Ok(format!("SHA-256 {hash}{function}"))
    }
}

/// The name of a model, if it is one: the original's settings write None or nothing for none.
pub(super) fn named(name: &str) -> Option<&str> {
    Some(name).filter(|name| !matches!(*name, "" | "None" | "none"))
}

/// Width and height, as `640,640` or `640x640`.
pub(super) fn parse_size(text: &str) -> Result<(usize, usize), String> {
    let mut sides = text.split([',', 'x']).map(|s| s.trim().parse::<usize>());
    match (sides.next(), sides.next(), sides.next()) {
        (Some(Ok(w)), Some(Ok(h)), None) if (32..=8192).contains(&w) && (32..=8192).contains(&h) => Ok((w, h)),
        _ => Err("expected width,height between 32 and 8192, such as 640,640".into()),
    }
}

/// A number from 0 to 1.
pub(super) fn parse_threshold(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

/// Seconds, up to an hour.
pub(super) fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=3600.0).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds from 0 to 3600".into()),
    }
}

/// Millions of pixels.
pub(super) fn parse_megapixels(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e6 => Ok(value),
        _ => Err("expected millions of pixels, over 0 and up to 1000000, such as 50".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_thresholds_are_checked() {
        assert_eq!(parse_size("640, 480"), Ok((640, 480)));
        assert_eq!(parse_size("320x640"), Ok((320, 640)));
        for odd in ["", "640", "640,480,3", "0,640", "640,-1", "99999,640", "a,b"] {
            assert!(parse_size(odd).is_err(), "{odd}");
        }
        assert_eq!(parse_threshold("0.5"), Ok(0.5));
        for odd in ["1.5", "-0.1", "NaN", "x"] {
            assert!(parse_threshold(odd).is_err(), "{odd}");
        }
        assert_eq!((parse_seconds("0.5"), parse_megapixels("0.01")), (Ok(0.5), Ok(0.01)));
        for odd in ["NaN", "inf", "-1", "1e9", "", "x"] {
            assert!(parse_seconds(odd).is_err() && parse_megapixels(odd).is_err(), "{odd}");
        }
        assert!(parse_megapixels("0").is_err());
    }
    #[test]
    fn the_identity_of_a_network_is_its_file_and_what_it_is_declared_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let models_dir = Some(dir.path().to_owned());
        let args = NetworkArgs { det_name: "".into(), rec_name: "".into(), models_dir, max_size: (64, 64) };
        let built_in = args.identity("mobilefacenet").unwrap();
        assert!(built_in.starts_with("SHA-256 ") && built_in.len() >= 72, "{built_in}");
        let file = ModelStore::new(args.models_dir.clone()).file("mine").unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, embedded("mobilefacenet").unwrap()).unwrap();
        assert_eq!(args.identity("mine").unwrap()[..72], built_in[..72]);
        std::fs::write(dir.path().join("models.json"), r#"{"mine": {"function": "adaface"}}"#).unwrap();
        assert!(args.identity("mine").unwrap().ends_with(", adaface"));
        std::fs::write(&file, "another").unwrap();
        assert_ne!(args.identity("mine").unwrap()[..72], built_in[..72]);
        assert!(args.identity("nothing").is_err());
    }
}
