//! Stamps: detect changed files without reading them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::ModelError;
use super::function::Role;
use super::manifest::{FILES, Manifest, ModelEntry};
use super::name::split_names;
use super::store::{Location, ModelStore};

/// Metadata of a file. Writing to or replacing the file changes the stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Distinguishes a file from a replacement with the same length and time.
    inode: u64,
}

impl Stamp {
    /// The stamp of a regular file; `None` if there is none at `path`.
    pub fn of(path: &Path) -> Option<Stamp> {
        let metadata = std::fs::metadata(path).ok().filter(|m| m.is_file())?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Stamp { length: metadata.len(), modified: metadata.modified().ok(), inode })
    }
}

/// State of all files and manifest entries that a loaded network depends on. Equal versions mean equal networks.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelVersion {
    /// Role of the network.
    pub role: Role,
    /// Name as configured; for liveness several names, separated by commas.
    pub name: String,
    files: Vec<Option<Stamp>>,
    entries: Vec<ModelEntry>,
}

/// Snapshot of the models directory: installed models and the manifest.
#[derive(Debug)]
pub struct Inventory {
    names: Vec<String>,
    stamps: BTreeMap<String, Stamp>,
    manifest: Result<Manifest, ModelError>,
}

impl Inventory {
    /// Names of installed and embedded models, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The version of one of the [`Inventory::names`].
    ///
    /// # Errors
    ///
    /// If a manifest could not be read.
    pub fn version(&self, role: Role, name: &str) -> Result<ModelVersion, &ModelError> {
        let manifest = self.manifest.as_ref()?;
        let files = vec![self.stamps.get(name).cloned()];
        let entries = vec![manifest.get(name).cloned().unwrap_or_default()];
        Ok(ModelVersion { role, name: name.into(), files, entries })
    }
}

impl ModelStore {
    /// Reads the directory and the manifests once, for any number of [`Inventory::version`] calls.
    pub fn inventory(&self) -> Inventory {
        let names = self.names();
        let stamp = |name: &String| Some((name.clone(), Stamp::of(&self.file(name)?)?));
        let stamps = names.iter().filter_map(stamp).collect();
        Inventory { names, stamps, manifest: self.manifest() }
    }

    /// Stamps of the manifests and of all installed models.
    pub fn stamps(&self) -> BTreeMap<PathBuf, Stamp> {
        let manifests = self.dir().into_iter().flat_map(|dir| FILES.map(|file| dir.join(file)));
        let models = self.names().into_iter().filter_map(|name| self.file(&name));
        manifests.chain(models).filter_map(|path| Stamp::of(&path).map(|stamp| (path, stamp))).collect()
    }

    /// The current version of `name`, or of several names separated by commas.
    ///
    /// # Errors
    ///
    /// If a manifest cannot be read.
    pub fn version(&self, role: Role, name: &str) -> Result<ModelVersion, ModelError> {
        let manifest = self.manifest()?;
        let (mut files, mut entries) = (vec![], vec![]);
        for name in split_names(name) {
            files.push(match self.locate(name)? {
                Location::Installed(path) => Stamp::of(&path),
                _ => None,
            });
            entries.push(manifest.get(name).cloned().unwrap_or_default());
        }
        Ok(ModelVersion { role, name: name.into(), files, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_change_only_with_their_files_and_entries() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        let file = |name: &str| {
            let file = store.file(name).unwrap();
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            file
        };
        let version = || store.version(Role::Recognizer, "mine").unwrap();
        let absent = version();
        let listed = || store.inventory().version(Role::Recognizer, "mine").unwrap();
        assert_eq!(listed(), absent);
        std::fs::write(file("mine"), "one").unwrap();
        let first = version();
        assert!(absent != first && first == version());
        std::fs::write(file("other"), "of no concern").unwrap();
        assert_eq!(first, version());
        std::fs::write(dir.path().join("models.json"), r#"{"other": {"function": "scrfd"}}"#).unwrap();
        assert_eq!(first, version());
        assert_eq!(store.stamps().len(), 3);
        std::fs::write(dir.path().join("models.json"), r#"{"mine": {"function": "adaface"}}"#).unwrap();
        let declared = version();
        assert!(declared != first && listed() == declared);
        // A replacement with the same length and time.
        let before = std::fs::metadata(file("mine")).unwrap().modified().unwrap();
        let replacement = dir.path().join("new");
        std::fs::write(&replacement, "two").unwrap();
        std::fs::File::options().write(true).open(&replacement).unwrap().set_modified(before).unwrap();
        std::fs::rename(replacement, file("mine")).unwrap();
        assert!(version() != declared);
        std::fs::write(dir.path().join("models.json"), "{").unwrap();
        assert!(store.version(Role::Recognizer, "mine").is_err());
        let inventory = store.inventory();
        assert!(inventory.version(Role::Recognizer, "mine").is_err());
        assert_eq!(inventory.names(), ["centerface", "mine", "mobilefacenet", "other"]);
    }
}
