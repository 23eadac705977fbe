//! Whether files are still the ones they were, without reading them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::manifest::{FILES, Manifest};
use super::store::{Location, split_names};
use super::{ModelEntry, ModelError, ModelStore, Role};

/// What a file looked like. A file that was written to or replaced has another stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// A file that was renamed into place may have length and time of the one before.
    inode: u64,
}

impl Stamp {
    /// `None` when there is no such file.
    pub fn of(path: &Path) -> Option<Stamp> {
        let metadata = std::fs::metadata(path).ok().filter(|m| m.is_file())?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Stamp { length: metadata.len(), modified: metadata.modified().ok(), inode })
    }
}

/// All that the network loaded as `name` depends on in the models directory: with the same origin it is the same network.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    pub role: Role,
    /// As configured; several separated by commas for liveness.
    pub name: String,
    files: Vec<Option<Stamp>>,
    entries: Vec<ModelEntry>,
}

/// The models directory at one moment: what is installed, and what the manifests say.
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

    /// The origin of one of the [`Inventory::names`]. Errs when a manifest could not be read.
    pub fn origin(&self, role: Role, name: &str) -> Result<Origin, &ModelError> {
        let manifest = self.manifest.as_ref()?;
        let files = vec![self.stamps.get(name).cloned()];
        let entries = vec![manifest.get(name).cloned().unwrap_or_default()];
        Ok(Origin { role, name: name.into(), files, entries })
    }
}

impl ModelStore {
    /// Reads the directory and the manifests once, for any number of [`Inventory::origin`].
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

    /// Where `name` (or each of several, separated by commas) comes from now. Errs when a manifest cannot be read.
    pub fn origin(&self, role: Role, name: &str) -> Result<Origin, ModelError> {
        let manifest = self.manifest()?;
        let (mut files, mut entries) = (vec![], vec![]);
        for name in split_names(name) {
            files.push(match self.locate(name)? {
                Location::Installed(path) => Stamp::of(&path),
                _ => None,
            });
            entries.push(manifest.get(name).cloned().unwrap_or_default());
        }
        Ok(Origin { role, name: name.into(), files, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_change_with_what_they_depend_on_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        let file = |name: &str| {
            let file = store.file(name).unwrap();
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            file
        };
        let origin = || store.origin(Role::Recognizer, "mine").unwrap();
        let absent = origin();
        let listed = || store.inventory().origin(Role::Recognizer, "mine").unwrap();
        assert_eq!(listed(), absent);
        std::fs::write(file("mine"), "one").unwrap();
        let first = origin();
        assert!(absent != first && first == origin());
        std::fs::write(file("other"), "of no concern").unwrap();
        assert_eq!(first, origin());
        std::fs::write(dir.path().join("models.json"), r#"{"other": {"function": "scrfd"}}"#).unwrap();
        assert_eq!(first, origin());
        assert_eq!(store.stamps().len(), 3);
        std::fs::write(dir.path().join("models.json"), r#"{"mine": {"function": "adaface"}}"#).unwrap();
        let declared = origin();
        assert!(declared != first && listed() == declared);
        // Another file of the same length, even of the same time, put in its place.
        let before = std::fs::metadata(file("mine")).unwrap().modified().unwrap();
        let beside = dir.path().join("new");
        std::fs::write(&beside, "two").unwrap();
        std::fs::File::options().write(true).open(&beside).unwrap().set_modified(before).unwrap();
        std::fs::rename(beside, file("mine")).unwrap();
        assert!(origin() != declared);
        std::fs::write(dir.path().join("models.json"), "{").unwrap();
        assert!(store.origin(Role::Recognizer, "mine").is_err());
        let inventory = store.inventory();
        assert!(inventory.origin(Role::Recognizer, "mine").is_err());
        assert_eq!(inventory.names(), ["centerface", "mine", "mobilefacenet", "other"]);
    }
}
