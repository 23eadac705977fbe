//! Putting files of one's own into the models directory, and taking models out of it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::function::{Role, recognizer_kind, role_of};
use super::manifest::{ModelEntry, add_override, remove_override};
use super::recognise::recognise;
use super::store::{Location, MOST_BYTES, fit_detector, is_name};
use super::{ModelError, ModelStore};
use crate::attributes::{GenderAge, Liveness, MaskDetector};
use crate::files::install_file;
use crate::recognize::Recognizer;
use ifr_engine::Network;

/// Width and height detectors are tried with.
const CANVAS: (usize, usize) = (640, 640);

impl ModelStore {
    /// Puts a file into the models directory under `name`, and what it is for into the override manifest. A known name keeps what is known
    /// of it, its function first of all; where to fetch it only when the file is the very one that is published.
    ///
    /// Errs when it is no file, no network, or does not do what `function`, or the manifest's, says; without either when its shapes tell
    /// nothing. A model of that name is replaced in one step.
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
            // Goes only when nothing is in it.
            let _ = fs::remove_dir(folder);
            return Err(error);
        }
        let _ = fs::remove_file(pin_of(&target));
        add_override(dir, name, entry)?;
        Ok(target)
    }

    /// Removes an installed model, and its entry in the override manifest when [`ModelStore::add`] made it. Errs when it is not installed.
    pub fn remove(&self, name: &str) -> Result<PathBuf, ModelError> {
        let (Location::Installed(file), Some(dir)) = (self.locate(name)?, self.dir()) else {
            return Err(self.unknown(name, false));
        };
        fs::remove_file(&file).map_err(|source| ModelError::Write { path: file.clone(), source })?;
        let _ = fs::remove_file(pin_of(&file));
        if let Some(folder) = file.parent() {
            // What an interrupted download, or an earlier version, has left.
            for left in ["onnx.part", "onnx.origin", "lock"] {
                let _ = fs::remove_file(folder.join(format!(".{name}.{left}")));
            }
            // The folder goes too, unless something of the user's is in it.
            let _ = fs::remove_dir(folder);
        }
        remove_override(dir, name)?;
        Ok(file)
    }
}

/// Where the hash of a first download is kept: beside the model, as `sha256sum` writes it.
pub(super) fn pin_of(file: &Path) -> PathBuf {
    file.with_extension("onnx.sha256")
}

/// Copies a regular file that is not too large; its size in bytes.
fn copy(file: &Path, part: &Path) -> Result<u64, ModelError> {
    let read = |source| ModelError::Read { path: file.into(), source };
    let unfit = || ModelError::NoModelFile { path: file.into() };
    // Asked before it is opened: opening a pipe waits for its other end.
    if !fs::metadata(file).map_err(read)?.is_file() {
        return Err(unfit());
    }
    let source = File::open(file).map_err(read)?;
    if source.metadata().map_err(read)?.len() > MOST_BYTES {
        return Err(unfit());
    }
    let copied = || -> io::Result<u64> { io::copy(&mut source.take(MOST_BYTES + 1), &mut File::create(part)?) };
    match copied().map_err(|source| ModelError::Write { path: part.into(), source })? {
        size if size > MOST_BYTES => Err(unfit()),
        size => Ok(size),
    }
}

/// Whether the network in `part` can be what the entry says it is for; `origin` is what messages call it.
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
        None => recognise(|| Network::from_file(part, name), CANVAS)
            .map(drop)
            .map_err(|source| ModelError::Unrecognised { origin: origin.clone(), source }),
    }
}

/// Notes which file it is. One that is not the published one, as far as is known, is not to be had where that one is.
fn describe(entry: &mut ModelEntry, part: &Path, size: u64) -> Result<(), ModelError> {
    let (published, sha256) = {
        let read = |source| ModelError::Read { path: part.into(), source };
        let hashes = super::hash::Hashes::of(File::open(part).map_err(read)?).map_err(read)?;
        let known = entry.sha256.is_some() || entry.md5.is_some();
        (known && super::integrity::difference(&hashes, entry).is_none(), Some(hashes.sha256))
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

    /// A store, and a place for files beside it.
    fn fixture() -> (tempfile::TempDir, ModelStore, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().join("models")));
        fs::create_dir(dir.path().join("models")).unwrap();
        let file = dir.path().join("some.onnx");
        fs::write(&file, embedded("mobilefacenet").unwrap()).unwrap();
        (dir, store, file)
    }

    #[test]
    fn models_are_added_used_as_declared_and_removed() {
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
    fn a_known_name_keeps_its_preprocessing_and_loses_a_link_to_another_file() {
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
    fn entries_of_the_user_outlive_the_file() {
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
        assert!(message.contains("not a recogniser"), "{message}");
        assert!(store.add(&file, "glintr100", None).is_err(), "the manifest says it is a recogniser");
        assert_eq!(store.names(), ["centerface", "mobilefacenet"]);
        store.add(&file, "mine", Some("centerface")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let (dir, store, _) = fixture();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [Path::new("/dev/zero"), &pipe, dir.path()] {
            assert!(matches!(store.add(path, "mine", None), Err(ModelError::NoModelFile { .. })), "{path:?}");
        }
        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(MOST_BYTES + 1).unwrap();
        assert!(matches!(store.add(&huge, "mine", None), Err(ModelError::NoModelFile { .. })));
        assert!(!dir.path().join("models/onnx/mine").exists());
    }
}
