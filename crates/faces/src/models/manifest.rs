//! Which models are known: InsightFace-REST's `models.json`, extended.
//!
//! The built-in manifest comes first; entries of `MODELS_DIR/models.json` and then of `MODELS_DIR/models.override.json` take the place
//! of entries of the same name. Fields this program does not know are ignored, so files made for the original keep working, and an entry
//! that cannot be understood is left out with a note: one odd entry must not take the others with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ModelError;
use super::function::{Role, role_of};
use super::store::{NAME_RULE, is_name};
use crate::files::replace_file;

const BUILT_IN: &str = include_str!("../../../../models/models.json");
/// Files in the models directory that add to the built-in manifest, the last one winning.
pub const FILES: [&str; 2] = ["models.json", "models.override.json"];
/// Prefix of links that are file numbers of Google Drive.
pub const GOOGLE: &str = "google:";

/// What is known about one model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelEntry {
    /// What the model is for and how its input and output are understood: see [`super::functions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Shape of the input as published; `None` is a dimension left open. The graph's own counts where it says one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<Option<i64>>>,
    /// `false` for a detector that is to run at its own size, whatever canvas is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reshape: Option<bool>,
    /// `false` for a model that is to see one picture or face at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_batching: Option<bool>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
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
    /// Written by [`super::ModelStore::add`] for a file that was put there; goes when the file is removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub added: bool,
    /// The entry of the override manifest that an added one took the place of, to be put back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Value>,
}

impl ModelEntry {
    /// An entry as people write them: `null` says nothing, `md5sum` is another name of `md5`, and dimensions that are no numbers are open.
    fn read(value: Value) -> Result<ModelEntry, String> {
        let Value::Object(mut fields) = value else { return Err("it is no object".into()) };
        fields.retain(|_, value| !value.is_null());
        if let Some(other) = fields.remove("md5sum") {
            match fields.get("md5") {
                Some(md5) if *md5 != other => return Err("md5 and md5sum differ".into()),
                _ => drop(fields.insert("md5".into(), other)),
            }
        }
        if let Some(Value::Array(shape)) = fields.get_mut("shape") {
            shape.iter_mut().filter(|side| !side.is_i64()).for_each(|side| *side = Value::Null);
        }
        serde_json::from_value(Value::Object(fields)).map_err(|e| e.to_string())
    }

    /// Width and height of the input as published.
    pub fn published_size(&self) -> Option<(usize, usize)> {
        match self.shape.as_deref()? {
            [_, _, Some(h), Some(w)] => Some((usize::try_from(*w).ok()?, usize::try_from(*h).ok()?)),
            _ => None,
        }
    }

    /// Pictures or faces in one pass, where `wanted` are asked for.
    pub fn batch(&self, wanted: usize) -> usize {
        if self.allow_batching == Some(false) { 1 } else { wanted }
    }

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
            // Other places with the same file, unless this one is said to be another.
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

/// All known models by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    entries: BTreeMap<String, ModelEntry>,
    notes: Vec<String>,
}

impl Manifest {
    /// The built-in manifest, and on top of it those of a models directory. Errs when one is there and cannot be read; entries that cannot be
    /// understood are left out, see [`Manifest::notes`].
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
            let read = if is_name(&name) { ModelEntry::read(value) } else { Err(NAME_RULE.into()) };
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

    /// Remembers a note, and logs it once in the life of the program: manifests are read again and again.
    fn note(&mut self, note: String) {
        static LOGGED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        if LOGGED.lock().unwrap_or_else(PoisonError::into_inner).insert(note.clone()) {
            tracing::warn!("{note}");
        }
        self.notes.push(note);
    }

    /// What was left out, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
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

/// Puts the entry of an added file into `MODELS_DIR/models.override.json`, keeping all others as they are. What it takes the place of is
/// kept in it.
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

/// Undoes [`add_override`]. An entry that the user wrote stays.
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

/// Writes the override manifest anew when `edit` has changed something.
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
    fn everything_built_in_is_usable() {
        let manifest = Manifest::load(None).unwrap();
        for (name, entry) in manifest.iter() {
            assert!(super::super::store::is_name(name), "{name}");
            // One of the original's, which it has no function for either.
            if entry.members.is_empty() && name != "coordinateReg" {
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
    fn odd_entries_are_left_out_with_a_note_and_take_no_other_with_them() {
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
        assert!(manifest.get("scrfd_10g_bnkps").unwrap().role().is_some(), "the built-in one stays");
        let nulls = manifest.get("nulls").unwrap();
        assert_eq!((nulls.reshape, nulls.published_size(), nulls.batch(4)), (None, None, 4));
        assert_eq!(nulls.shape, Some(vec![None, Some(3), None, Some(640)]));
        assert_eq!(manifest.get("both").unwrap().md5.as_ref(), Some(&hash));
        let plain = manifest.get("plain").unwrap();
        assert_eq!((plain.reshape, plain.published_size(), plain.batch(4)), (Some(false), Some((640, 480)), 1));
    }

    #[test]
    fn an_entry_with_the_same_link_keeps_our_other_links() {
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
    fn the_override_is_edited_without_losing_what_it_holds() {
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
        // Twice, and what the user wrote comes back all the same.
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
