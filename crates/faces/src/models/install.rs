//! Adds model files to the models directory and removes models from it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::classify::classify;
use super::error::{MAX_MODEL_BYTES, ModelError};
use super::function::{Role, recognizer_kind, role_of};
use super::hash::Hashes;
use super::integrity::difference;
use super::manifest::{ModelEntry, add_override, remove_override};
use super::name::is_name;
use super::pin::pin_path;
use super::store::{Location, ModelStore, fit_detector};
use crate::attributes::{GenderAge, Liveness, MaskDetector};
use crate::files::install_file;
use crate::recognize::Recognizer;
use ifr_engine::Network;

/// (width, height) of the canvas that detectors are tested with.
const CANVAS: (usize, usize) = (640, 640);

impl ModelStore {
    /// Copies a model file into the models directory as `name` and writes its function to the override manifest.
    ///
    /// The entry of a known name is kept, above all its function. Its links are kept only if the file is the published
    /// one. An installed model of the same name is replaced atomically.
    ///
    /// # Errors
    ///
    /// If `file` is not a regular file with a network, or the network does not fit `function` or the function in the
    /// manifest. Without a function: if [`classify`] fails.
    pub fn add(&self, file: &Path, name: &str, function: Option<&str>) -> Result<PathBuf, ModelError> {
        if !is_name(name) {
            return Err(ModelError::Name(name.into()));
        }
        let (Some(dir), Some(target)) = (self.dir(), self.file(name)) else { return Err(ModelError::NoDirectory) };
        let mut entry = self.entry(name)?;
        if let Some(function) = function {
            entry.function = Some(function.to_owned());
        }
        let folder = target.parent().unwrap_or(dir);
        let written = |source| ModelError::Write { path: target.clone(), source };
        fs::create_dir_all(folder).map_err(written)?;
        let part = folder.join(format!(".{name}.onnx.{}.added", std::process::id()));
        let size = copy(file, &part).and_then(|size| {
            check(&part, &file.display().to_string(), name, &entry)?;
            describe(&mut entry, &part, size)?;
            install_file(&part, &target).map_err(written)
        });
        if let Err(error) = size {
            let _ = fs::remove_file(&part);
            // Fails if the folder is not empty, as intended.
            let _ = fs::remove_dir(folder);
            return Err(error);
        }
        let _ = fs::remove_file(pin_path(&target));
        add_override(dir, name, entry)?;
        Ok(target)
    }

    /// Removes an installed model, and the manifest entry that [`ModelStore::add`] made.
    ///
    /// # Errors
    ///
    /// If the model is not installed or cannot be removed.
    pub fn remove(&self, name: &str) -> Result<PathBuf, ModelError> {
        let (Location::Installed(file), Some(dir)) = (self.locate(name)?, self.dir()) else {
            return Err(self.unknown(name, false));
        };
        fs::remove_file(&file).map_err(|source| ModelError::Write { path: file.clone(), source })?;
        let _ = fs::remove_file(pin_path(&file));
        if let Some(folder) = file.parent() {
            // Files of interrupted downloads and of earlier versions.
            for left in ["onnx.part", "onnx.origin", "lock"] {
                let _ = fs::remove_file(folder.join(format!(".{name}.{left}")));
            }
            // Fails if the folder holds files of the user, as intended.
            let _ = fs::remove_dir(folder);
        }
        remove_override(dir, name)?;
        Ok(file)
    }
}

/// Copies a regular file of at most [`MAX_MODEL_BYTES`]. Returns its size in bytes.
fn copy(file: &Path, part: &Path) -> Result<u64, ModelError> {
    let read = |source| ModelError::Read { path: file.into(), source };
    let unfit = || ModelError::NoModelFile { path: file.into() };
    // Checked before opening, because opening a pipe blocks until its other end is open.
    if !fs::metadata(file).map_err(read)?.is_file() {
        return Err(unfit());
    }
    let source = File::open(file).map_err(read)?;
    if source.metadata().map_err(read)?.len() > MAX_MODEL_BYTES {
        return Err(unfit());
    }
    let copied = || -> io::Result<u64> { io::copy(&mut source.take(MAX_MODEL_BYTES + 1), &mut File::create(part)?) };
    match copied().map_err(|source| ModelError::Write { path: part.into(), source })? {
        size if size > MAX_MODEL_BYTES => Err(unfit()),
        size => Ok(size),
    }
}

/// Checks that the network in `part` fits the function of the entry. `origin` names the file in messages.
fn check(part: &Path, origin: &str, name: &str, entry: &ModelEntry) -> Result<(), ModelError> {
    let origin = origin.to_owned();
    let open = || match Network::from_file(part, name) {
        Ok(network) => Ok((network, origin.clone())),
        Err(source) => Err(ModelError::Load { origin: origin.clone(), source }),
    };
    let attribute = |source| ModelError::Attribute { origin: origin.clone(), source };
    match entry.function.as_deref().and_then(role_of) {
        Some(Role::Detector) => fit_detector(open, CANVAS, 1, entry).map(drop),
        Some(Role::Recognizer) => Recognizer::new(open()?.0, recognizer_kind(entry.function.as_deref()), 1)
            .map(drop)
            .map_err(|source| ModelError::Recognizer { origin: origin.clone(), source }),
        Some(Role::GenderAge) => GenderAge::new(open()?.0, 1).map(drop).map_err(attribute),
        Some(Role::MaskDetector) => MaskDetector::new(open()?.0, 1).map(drop).map_err(attribute),
        Some(Role::Liveness) => Liveness::new(vec![(1.0, open()?.0)], 1).map(drop).map_err(attribute),
        None => classify(|| Network::from_file(part, name), CANVAS)
            .map(drop)
            .map_err(|source| ModelError::Unclassified { origin: origin.clone(), source }),
    }
}

/// Stores size and hash of the file in the entry. Removes the links if the file is not known to be the published one.
fn describe(entry: &mut ModelEntry, part: &Path, size: u64) -> Result<(), ModelError> {
    let (published, sha256) = {
        let read = |source| ModelError::Read { path: part.into(), source };
        let hashes = Hashes::of(File::open(part).map_err(read)?).map_err(read)?;
        let known = entry.sha256.is_some() || entry.md5.is_some();
        (known && difference(&hashes, entry).is_none(), Some(hashes.sha256))
    };
    if !published {
        (entry.link, entry.dl_type, entry.md5) = (None, None, None);
        entry.links.clear();
    }
    entry.members.clear();
    (entry.size, entry.sha256) = (Some(size), sha256);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::embedded;
    use crate::recognize::RecognizerKind;

    /// A store, and a model file outside of it.
    fn fixture() -> (tempfile::TempDir, ModelStore, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().join("models")));
        fs::create_dir(dir.path().join("models")).unwrap();
        let file = dir.path().join("some.onnx");
        fs::write(&file, embedded("mobilefacenet").unwrap()).unwrap();
        (dir, store, file)
    }

    #[test]
    fn models_are_added_used_with_their_function_and_removed() {
        let (_dir, store, file) = fixture();
        store.add(&file, "mine", Some("adaface")).unwrap();
        assert_eq!(store.names(), ["centerface", "mine", "mobilefacenet"]);
        assert_eq!(store.recognizer("mine", 1).unwrap().kind(), RecognizerKind::Adaface);
        let message = store.detector("mine", (64, 64), 1).err().unwrap().to_string();
        assert!(
            message.contains("adaface") && message.contains("not a face detector; there are: centerface"),
            "{message}"
        );
        store.remove("mine").unwrap();
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        assert_eq!(store.entry("mine").unwrap(), ModelEntry::default());
        assert!(!store.dir().unwrap().join("onnx/mine").exists());
        assert!(store.remove("mine").is_err() && store.remove("centerface").is_err());
        fs::write(&file, "no network").unwrap();
        assert!(store.add(&file, "text", None).is_err());
        assert_eq!(store.locate("text").unwrap(), Location::Unavailable);
        assert!(!store.dir().unwrap().join("onnx/text").exists());
    }

    #[test]
    fn a_known_name_keeps_its_function_and_loses_links_to_other_files() {
        let (_dir, store, file) = fixture();
        let known = store.entry("adaface_ir101_webface12m").unwrap();
        store.add(&file, "adaface_ir101_webface12m", None).unwrap();
        assert_eq!(store.recognizer("adaface_ir101_webface12m", 1).unwrap().kind(), RecognizerKind::Adaface);
        let entry = store.entry("adaface_ir101_webface12m").unwrap();
        assert!(entry.all_links().is_empty() && entry.md5.is_none() && entry.size.is_some());
        assert_eq!((&entry.license, &entry.source), (&known.license, &known.source));
        store.remove("adaface_ir101_webface12m").unwrap();
        assert_eq!(store.entry("adaface_ir101_webface12m").unwrap(), known);
    }

    #[test]
    fn the_published_file_keeps_its_links() {
        let (dir, store, file) = fixture();
        let sha256 = super::super::hash::sha256(embedded("mobilefacenet").unwrap());
        let own =
            serde_json::json!({"mine": {"function": "adaface", "link": "https://example.org/m", "sha256": sha256}});
        let path = dir.path().join("models/models.override.json");
        fs::write(&path, own.to_string()).unwrap();
        store.add(&file, "mine", None).unwrap();
        assert_eq!(store.entry("mine").unwrap().all_links(), ["https://example.org/m"]);
        store.remove("mine").unwrap();
        let left: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, own, "the user's entry is as it was");
    }

    #[test]
    fn entries_of_the_user_stay_after_removal() {
        let (dir, store, file) = fixture();
        let own = serde_json::json!({"mine": {"function": "adaface", "link": "https://example.org/m"}}).to_string();
        let path = dir.path().join("models/models.override.json");
        fs::write(&path, &own).unwrap();
        let target = store.file("mine").unwrap();
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::rename(&file, target).unwrap();
        store.remove("mine").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), own);
        assert_eq!(store.locate("mine").unwrap(), Location::Available);
    }

    #[test]
    fn a_function_must_fit_the_network() {
        let (_dir, store, file) = fixture();
        for function in ["scrfd", "genderage_v1", "mask_detector", "liveness"] {
            let message = store.add(&file, "mine", Some(function)).unwrap_err().to_string();
            assert!(message.contains("some.onnx"), "{message}");
        }
        fs::write(&file, embedded("centerface").unwrap()).unwrap();
        let message = store.add(&file, "mine", Some("arcface_torch")).unwrap_err().to_string();
        assert!(message.contains("not a recognizer"), "{message}");
        assert!(store.add(&file, "glintr100", None).is_err(), "the manifest says it is a recognizer");
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        store.add(&file, "mine", Some("centerface")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn irregular_and_large_files_are_refused() {
        let (dir, store, _) = fixture();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [Path::new("/dev/zero"), &pipe, dir.path()] {
            assert!(matches!(store.add(path, "mine", None), Err(ModelError::NoModelFile { .. })), "{path:?}");
        }
        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(MAX_MODEL_BYTES + 1).unwrap();
        assert!(matches!(store.add(&huge, "mine", None), Err(ModelError::NoModelFile { .. })));
        assert!(!dir.path().join("models/onnx/mine").exists());
    }
}
