//! The manifest of known models: InsightFace-REST's `models.json` with additional fields.
//!
//! Entries of `MODELS_DIR/models.json` replace built-in entries of the same name, and entries of
//! `MODELS_DIR/models.override.json` replace both. Unknown fields are ignored, so manifests of the original work. A
//! malformed entry is skipped with a note, so that it does not disable the other entries.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::ModelError;
use super::function::{Role, role_of};
use super::name::{NAME_RULE, is_name};
use crate::files::replace_file;
use crate::sync::lock;

const BUILT_IN: &str = include_str!("../../../../models/models.json");
/// Manifest files in the models directory. Entries of the later file take precedence.
pub const FILES: [&str; 2] = ["models.json", "models.override.json"];
/// Prefix of links that are file IDs of Google Drive.
pub const GOOGLE: &str = "google:";

/// One entry of the manifest: the known properties of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelEntry {
    /// Function of the model: role, preprocessing and decoding. See [`super::functions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Published shape of the input; `None` for open dimensions. A shape in the graph takes precedence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<Option<i64>>>,
    /// `false`: the detector runs at its published size only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reshape: Option<bool>,
    /// `false`: the model runs with batch size 1 only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_batching: Option<bool>,
    /// Names of the members, if the entry is a pack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    /// URL of the file. `#member.onnx` selects a member of a zip archive. With `dl_type` "google": file ID of Google
    /// Drive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Kind of `link`: "google" for Google Drive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dl_type: Option<String>,
    /// Mirrors of `link`, tried in order. `google:ID` is a file of Google Drive.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// MD5 of the file in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// SHA-256 of the file in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size of the file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// License of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Set by [`super::ModelStore::add`]. Such an entry is removed together with the file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub added: bool,
    /// Entry of the override manifest that an added entry replaced. Restored on removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Value>,
}

impl ModelEntry {
    /// Parses an entry leniently: `null` means absent, `md5sum` is an alias of `md5`, and dimensions that are not
    /// numbers are open.
    fn read(value: Value) -> Result<ModelEntry, EntryError> {
        let Value::Object(mut fields) = value else { return Err(EntryError::NoObject) };
        fields.retain(|_, value| !value.is_null());
        if let Some(other) = fields.remove("md5sum") {
            match fields.get("md5") {
                Some(md5) if *md5 != other => return Err(EntryError::DifferentHashes),
                _ => drop(fields.insert("md5".into(), other)),
            }
        }
        if let Some(Value::Array(shape)) = fields.get_mut("shape") {
            shape.iter_mut().filter(|side| !side.is_i64()).for_each(|side| *side = Value::Null);
        }
        Ok(serde_json::from_value(Value::Object(fields))?)
    }

    /// Published (width, height) of the input in pixels.
    pub fn published_size(&self) -> Option<(usize, usize)> {
        match self.shape.as_deref()? {
            [_, _, Some(h), Some(w)] => Some((usize::try_from(*w).ok()?, usize::try_from(*h).ok()?)),
            _ => None,
        }
    }

    /// Batch size for a requested batch size of `wanted`.
    pub fn batch(&self, wanted: usize) -> usize {
        if self.allow_batching == Some(false) { 1 } else { wanted }
    }

    /// Role of the model; `None` without a known function.
    pub fn role(&self) -> Option<Role> {
        self.function.as_deref().and_then(role_of)
    }

    /// All links in the order in which they are tried: URLs and `google:ID`.
    pub fn all_links(&self) -> Vec<String> {
        let google = self.dl_type.as_deref() == Some("google");
        let first = self.link.iter().filter(|l| !l.is_empty()).map(|link| match google && !link.contains("://") {
            true => format!("{GOOGLE}{link}"),
            false => link.clone(),
        });
        first.chain(self.links.iter().cloned()).collect()
    }

    /// Whether the license forbids commercial use, so that the user has to accept it before the download.
    pub fn needs_acceptance(&self) -> bool {
        self.license.as_ref().is_some_and(|l| l.to_lowercase().contains("non-commercial"))
    }

    /// Copies missing fields from `older` if both entries describe the same file.
    fn inherit(&mut self, older: &ModelEntry) {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        if same(&self.link, &older.link) || same(&self.md5, &older.md5) || same(&self.sha256, &older.sha256) {
            self.license = self.license.take().or_else(|| older.license.clone());
            self.source = self.source.take().or_else(|| older.source.clone());
            // The mirrors of `older` apply unless the hash differs.
            if self.md5.is_none() || same(&self.md5, &older.md5) {
                let news = older.all_links().into_iter().filter(|link| !self.all_links().contains(link));
                let news: Vec<String> = news.collect();
                self.links.extend(news);
            }
            if self.md5 == older.md5 {
                self.sha256 = self.sha256.take().or_else(|| older.sha256.clone());
                self.size = self.size.or(older.size);
            }
        }
    }
}

/// Reason to skip an entry of a manifest file.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    /// The name is not a valid model name.
    #[error("{NAME_RULE}")]
    Name,
    /// The value is not a JSON object.
    #[error("it is not an object")]
    NoObject,
    /// The fields `md5` and `md5sum` have different values.
    #[error("md5 and md5sum differ")]
    DifferentHashes,
    /// A field has a value of the wrong type.
    #[error(transparent)]
    Field(#[from] serde_json::Error),
}

/// All known models by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    entries: BTreeMap<String, ModelEntry>,
    notes: Vec<String>,
}

impl Manifest {
    /// Loads the built-in manifest and the manifest files in `dir`. Malformed entries are skipped; see
    /// [`Manifest::notes`].
    ///
    /// # Errors
    ///
    /// If a manifest file exists and cannot be read or is not a JSON object.
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
        let entries: BTreeMap<String, Value> = serde_json::from_slice(bytes)
            .map_err(|source| ModelError::Manifest { path: PathBuf::from(origin), source })?;
        for (name, value) in entries {
            let read = if is_name(&name) { ModelEntry::read(value) } else { Err(EntryError::Name) };
            let mut entry = match read {
                Ok(entry) => entry,
                Err(reason) => {
                    self.note(format!("{}: the entry '{name}' is left out: {reason}", origin.display()));
                    continue;
                }
            };
            if let Some(older) = self.entries.get(&name) {
                entry.inherit(older);
            }
            self.entries.insert(name, entry);
        }
        Ok(())
    }

    /// Adds a note. Logs it once per process, because manifests are read often.
    fn note(&mut self, note: String) {
        static LOGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        if lock(&LOGGED).insert(note.clone()) {
            tracing::warn!("{note}");
        }
        self.notes.push(note);
    }

    /// Skipped entries with the reason.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The entry of `name`.
    pub fn get(&self, name: &str) -> Option<&ModelEntry> {
        self.entries.get(name)
    }

    /// All names and entries, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ModelEntry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The members if `name` is a pack, else `name` itself.
    pub fn expand(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(entry) if !entry.members.is_empty() => entry.members.clone(),
            _ => vec![name.to_owned()],
        }
    }
}

/// Writes the entry of an added file to `MODELS_DIR/models.override.json`. Other entries stay unchanged. The entry it
/// replaces is kept in [`ModelEntry::replaces`].
pub(super) fn add_override(dir: &Path, name: &str, entry: ModelEntry) -> Result<(), ModelError> {
    edit_override(dir, |entries| {
        let replaces = match entries.remove(name) {
            Some(Value::Object(mut old)) if is_added(&old) => old.remove("replaces"),
            other => other,
        };
        let entry = ModelEntry { added: true, replaces, ..entry };
        entries.insert(name.to_owned(), serde_json::to_value(entry)?);
        Ok(true)
    })
}

/// Reverts [`add_override`]. Entries that the user wrote stay.
pub(super) fn remove_override(dir: &Path, name: &str) -> Result<(), ModelError> {
    edit_override(dir, |entries| {
        let Some(Value::Object(entry)) = entries.get_mut(name) else { return Ok(false) };
        if !is_added(entry) {
            return Ok(false);
        }
        match entry.remove("replaces") {
            Some(before) => drop(entries.insert(name.to_owned(), before)),
            None => drop(entries.remove(name)),
        }
        Ok(true)
    })
}

fn is_added(entry: &Map<String, Value>) -> bool {
    entry.get("added") == Some(&Value::Bool(true))
}

/// Rewrites the override manifest if `edit` returns true.
fn edit_override(
    dir: &Path,
    edit: impl FnOnce(&mut Map<String, Value>) -> serde_json::Result<bool>,
) -> Result<(), ModelError> {
    let path = dir.join(FILES[1]);
    let wrong = |source| ModelError::Manifest { path: path.clone(), source };
    let mut entries: Map<String, Value> = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(wrong)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Default::default(),
        Err(source) => return Err(ModelError::Read { path, source }),
    };
    if !edit(&mut entries).map_err(wrong)? {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(&entries).map_err(wrong)?;
    replace_file(&path, &text).map_err(|source| ModelError::Write { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_entries_are_usable() {
        let manifest = Manifest::load(None).unwrap();
        for (name, entry) in manifest.iter() {
            assert!(is_name(name), "{name}");
            // An entry of the original, which has no function for it either.
            if entry.members.is_empty() && name != "coordinateReg" {
                assert!(entry.role().is_some(), "{name}: unknown function {:?}", entry.function);
            }
            for member in &entry.members {
                assert!(!manifest.get(member).unwrap().all_links().is_empty(), "{name}: {member} has no link");
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
    fn manifests_of_the_original_are_read_and_the_override_takes_precedence() {
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
        assert!(same_file.needs_acceptance() && same_file.sha256.is_some(), "identified by its hash");
        assert_eq!(manifest.get("glintr100").unwrap().license, None, "another file");
        assert!(manifest.get("centerface").is_some(), "built-in entries are kept");
        write("models.json", "{");
        let message = Manifest::load(Some(dir.path())).unwrap_err().to_string();
        assert!(message.contains("models.json"), "{message}");
    }

    #[test]
    fn malformed_entries_are_skipped_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let hash = "ab".repeat(16);
        let text = serde_json::json!({
            "my model": {"function": "scrfd"},
            "a/b": {},
            "numbers": {"size": "large"},
            "list": [],
            "two": {"md5": "00", "md5sum": "01"},
            "nulls": {"function": "scrfd", "reshape": null, "shape": [null, 3, "H", 640], "link": null, "extra": null},
            "both": {"md5": hash, "md5sum": hash},
            "plain": {"reshape": false, "allow_batching": false, "shape": [1, 3, 480, 640]},
            "scrfd_10g_bnkps": {"function": 5},
        });
        std::fs::write(dir.path().join("models.override.json"), text.to_string()).unwrap();
        let manifest = Manifest::load(Some(dir.path())).unwrap();
        for odd in ["my model", "a/b", "numbers", "list", "two", "scrfd_10g_bnkps"] {
            let note = manifest.notes().iter().find(|note| note.contains(&format!("'{odd}'")));
            assert!(note.is_some_and(|note| note.contains("models.override.json")), "{odd}: {:?}", manifest.notes());
        }
        assert_eq!(manifest.notes().len(), 6);
        assert!(manifest.notes().iter().any(|note| note.contains("md5 and md5sum differ")));
        assert!(manifest.get("scrfd_10g_bnkps").unwrap().role().is_some(), "the built-in entry is kept");
        let nulls = manifest.get("nulls").unwrap();
        assert_eq!((nulls.reshape, nulls.published_size(), nulls.batch(4)), (None, None, 4));
        assert_eq!(nulls.shape, Some(vec![None, Some(3), None, Some(640)]));
        assert_eq!(manifest.get("both").unwrap().md5.as_ref(), Some(&hash));
        let plain = manifest.get("plain").unwrap();
        assert_eq!((plain.reshape, plain.published_size(), plain.batch(4)), (Some(false), Some((640, 480)), 1));
    }

    #[test]
    fn an_entry_with_the_same_link_keeps_the_mirrors() {
        let dir = tempfile::tempdir().unwrap();
        let built_in = Manifest::load(None).unwrap();
        let link = built_in.get("w600k_r50").unwrap().link.clone();
        let text = serde_json::json!({"w600k_r50": {"function": "arcface_torch", "dl_type": "google", "link": link}});
        std::fs::write(dir.path().join("models.json"), text.to_string()).unwrap();
        let manifest = Manifest::load(Some(dir.path())).unwrap();
        let links = |m: &Manifest| m.get("w600k_r50").unwrap().all_links();
        assert_eq!(links(&manifest), links(&built_in));
        assert!(links(&manifest).len() > 1);
    }

    #[test]
    fn edits_of_the_override_keep_other_entries() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("models.override.json");
        let before =
            r#"{"kept": {"function": "scrfd", "outputs": ["a", "b"]}, "own": {"link": "https://example.org/own"}}"#;
        std::fs::write(&path, before).unwrap();
        let entry = ModelEntry { function: Some("adaface".into()), ..Default::default() };
        let written = |replaces| Some(ModelEntry { added: true, replaces, ..entry.clone() });
        let read = |name: &str| Manifest::load(Some(dir.path())).unwrap().get(name).cloned();
        add_override(dir.path(), "new", entry.clone()).unwrap();
        assert_eq!(read("new"), written(None));
        // Twice; the removal still restores the entry of the user.
        for _ in 0..2 {
            add_override(dir.path(), "own", entry.clone()).unwrap();
            assert_eq!(read("own"), written(Some(serde_json::json!({"link": "https://example.org/own"}))));
        }
        remove_override(dir.path(), "new").unwrap();
        remove_override(dir.path(), "own").unwrap();
        remove_override(dir.path(), "kept").unwrap();
        remove_override(dir.path(), "never").unwrap();
        let left: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(left, serde_json::from_str::<Value>(before).unwrap());
    }
}
