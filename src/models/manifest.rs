//! Which models are known: InsightFace-REST's `models.json`, extended.
//!
//! The built-in manifest comes first; entries of `MODELS_DIR/models.json` and then of `MODELS_DIR/models.override.json` take the place
//! of entries of the same name. Fields this program does not know are ignored, so files made for the original keep working.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ModelError;
use super::function::{Role, role_of};

const BUILT_IN: &str = include_str!("../../models/models.json");
/// Files in the models directory that add to the built-in manifest, the last one winning.
pub const FILES: [&str; 2] = ["models.json", "models.override.json"];
/// Prefix of links that are file numbers of Google Drive.
pub(super) const GOOGLE: &str = "google:";

/// What is known about one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelEntry {
    /// What the model is for and how its input and output are understood: see [`super::functions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Shape of the input as published. Kept for other readers; the graph itself is what counts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<i64>>,
    /// Whether the model may be run at other sizes. Kept for other readers, as is `allow_batching`.
    pub reshape: bool,
    pub allow_batching: bool,
    /// Names of the models this one stands for, when it is a pack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// Where to get the file: an address, with `#member.onnx` the member of a zip archive, or with `dl_type` "google" a file number of
    /// Google Drive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dl_type: Option<String>,
    /// Other places with the same file, tried in order. `google:NUMBER` is a file of Google Drive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Hashes of the file, in hexadecimal digits. All that are given must match.
    #[serde(alias = "md5sum", skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Bytes of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Who published it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl ModelEntry {
    /// What the model does, when its function is known.
    pub fn role(&self) -> Option<Role> {
        self.function.as_deref().and_then(role_of)
    }

    /// Everywhere the file can be had, in the order to try: addresses, and `google:NUMBER`.
    pub fn all_links(&self) -> Vec<String> {
        let google = self.dl_type.as_deref() == Some("google");
        let first = self.link.iter().filter(|l| !l.is_empty()).map(|link| match google && !link.contains("://") {
            true => format!("{GOOGLE}{link}"),
            false => link.clone(),
        });
        first.chain(self.links.iter().cloned()).collect()
    }

    /// Whether the licence forbids commercial use, so that it has to be accepted first.
    pub fn needs_acceptance(&self) -> bool {
        self.license.as_ref().is_some_and(|l| l.to_lowercase().contains("non-commercial"))
    }

    /// Takes over what is known of `older` when both mean the same file.
    fn inherit(&mut self, older: &ModelEntry) {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        if same(&self.link, &older.link) || same(&self.md5, &older.md5) || same(&self.sha256, &older.sha256) {
            self.license = self.license.take().or_else(|| older.license.clone());
            self.source = self.source.take().or_else(|| older.source.clone());
            if self.md5 == older.md5 {
                self.sha256 = self.sha256.take().or_else(|| older.sha256.clone());
                self.size = self.size.or(older.size);
            }
        }
    }
}

/// All known models by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    entries: BTreeMap<String, ModelEntry>,
}

impl Manifest {
    /// The built-in manifest, and on top of it those of a models directory. Errs when one is there and cannot be read.
    pub fn load(dir: Option<&Path>) -> Result<Manifest, ModelError> {
        let mut manifest = Manifest::default();
        manifest.add(BUILT_IN.as_bytes(), Path::new("the built-in models.json"))?;
        for file in dir.iter().flat_map(|d| FILES.map(|f| d.join(f))) {
            match std::fs::read(&file) {
                Ok(bytes) => manifest.add(&bytes, &file)?,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ModelError::Read { path: file, source }),
            }
        }
        Ok(manifest)
    }

    fn add(&mut self, bytes: &[u8], origin: &Path) -> Result<(), ModelError> {
        let entries: BTreeMap<String, ModelEntry> = serde_json::from_slice(bytes)
            .map_err(|source| ModelError::Manifest { path: PathBuf::from(origin), source })?;
        for (name, mut entry) in entries {
            if let Some(older) = self.entries.get(&name) {
                entry.inherit(older);
            }
            self.entries.insert(name, entry);
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&ModelEntry> {
        self.entries.get(name)
    }

    /// All names and what is known of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ModelEntry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The models `name` stands for: itself, or the members of a pack.
    pub fn expand(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(entry) if !entry.members.is_empty() => entry.members.clone(),
            _ => vec![name.to_owned()],
        }
    }
}

/// Adds or replaces (`Some`) or removes (`None`) an entry of `MODELS_DIR/models.override.json`, keeping all others as they are.
pub(super) fn edit_override(dir: &Path, name: &str, entry: Option<&ModelEntry>) -> Result<(), ModelError> {
    let path = dir.join(FILES[1]);
    let mut object: serde_json::Map<String, serde_json::Value> = match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| ModelError::Manifest { path: path.clone(), source })?
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Default::default(),
        Err(source) => return Err(ModelError::Read { path, source }),
    };
    match entry {
        Some(entry) => {
            let value =
                serde_json::to_value(entry).map_err(|source| ModelError::Manifest { path: path.clone(), source })?;
            object.insert(name.to_owned(), value);
        }
        None if object.remove(name).is_none() => return Ok(()),
        None => {}
    }
    let write = || -> std::io::Result<()> {
        // Beside and renamed: a reader sees the old file or the new one.
        let part = dir.join(format!(".{}.part", FILES[1]));
        std::fs::write(&part, serde_json::to_vec_pretty(&object).map_err(std::io::Error::other)?)?;
        std::fs::rename(part, &path)
    };
    write().map_err(|source| ModelError::Write { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_built_in_is_usable() {
        let manifest = Manifest::load(None).unwrap();
        for (name, entry) in manifest.iter() {
            assert!(super::super::store::is_name(name), "{name}");
            if entry.members.is_empty() {
                assert!(entry.role().is_some(), "{name}: unknown function {:?}", entry.function);
            }
            for member in &entry.members {
                assert!(!manifest.get(member).unwrap().all_links().is_empty(), "{name}: {member} cannot be had");
            }
            let digits = |h: &Option<String>, n: usize| {
                h.as_ref().is_none_or(|h| h.len() == n && h.bytes().all(|b| b.is_ascii_hexdigit()))
            };
            assert!(digits(&entry.md5, 32) && digits(&entry.sha256, 64), "{name}");
            for link in entry.all_links() {
                assert!(link.starts_with("https://") || link.starts_with(GOOGLE), "{name}: {link}");
            }
        }
        assert!(manifest.get("w600k_r50").unwrap().needs_acceptance());
        assert!(!manifest.get("centerface").unwrap().needs_acceptance());
        assert_eq!(manifest.expand("buffalo_l"), ["det_10g", "w600k_r50", "genderage"]);
        assert_eq!(manifest.expand("centerface"), ["centerface"]);
    }

    #[test]
    fn files_of_the_original_are_understood_and_the_override_wins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write(
            "models.json",
            r#"{"mine": {"function": "arcface_torch", "in_package": false, "link": "x", "dl_type": "google"},
                "w600k_r50": {"function": "arcface_torch", "md5": "80248d427976241cbd1343889ed132b3", "outputs": ["a"]},
                "glintr100": {"function": "arcface_torch", "link": "https://example.org/g.onnx"}}"#,
        );
        write(
            "models.override.json",
            r#"{"mine": {"function": "adaface", "md5sum": "00", "shape": [1, 3, 112, 112]}}"#,
        );
        let manifest = Manifest::load(Some(dir.path())).unwrap();
        let mine = manifest.get("mine").unwrap();
        assert_eq!(
            (mine.function.as_deref(), mine.md5.as_deref(), mine.all_links().len()),
            (Some("adaface"), Some("00"), 0)
        );
        let same_file = manifest.get("w600k_r50").unwrap();
        assert!(same_file.needs_acceptance() && same_file.sha256.is_some(), "known by its hash");
        assert_eq!(manifest.get("glintr100").unwrap().license, None, "another file");
        assert!(manifest.get("centerface").is_some(), "the built-in ones stay");
        write("models.json", "{");
        let message = Manifest::load(Some(dir.path())).unwrap_err().to_string();
        assert!(message.contains("models.json"), "{message}");
    }

    #[test]
    fn the_override_is_edited_without_losing_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("models.override.json");
        std::fs::write(&path, r#"{"kept": {"function": "scrfd", "outputs": ["a", "b"]}}"#).unwrap();
        let entry = ModelEntry { function: Some("adaface".into()), ..Default::default() };
        edit_override(dir.path(), "new", Some(&entry)).unwrap();
        assert_eq!(Manifest::load(Some(dir.path())).unwrap().get("new"), Some(&entry));
        edit_override(dir.path(), "new", None).unwrap();
        assert!(Manifest::load(Some(dir.path())).unwrap().get("new").is_none());
        assert!(std::fs::read_to_string(&path).unwrap().contains("outputs"));
    }
}
