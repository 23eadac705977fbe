//! Integrity of installed files: compares them with the manifest, or with the pin of the first download.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::hash::Hashes;
use super::manifest::ModelEntry;
use super::pin::pinned;
use super::stamp::Stamp;
use super::store::{Location, ModelStore};
use crate::sync::lock;

pub use super::pin::pin;

/// The first difference between a file and its entry: name of the property, value in the entry, value of the file.
/// `None` if all known properties are equal.
pub fn difference(found: &Hashes, entry: &ModelEntry) -> Option<(&'static str, String, String)> {
    let differs = |expected: &Option<String>, found: &str| {
        expected.as_ref().filter(|e| !e.eq_ignore_ascii_case(found)).map(|e| (e.to_lowercase(), found.to_owned()))
    };
    if let Some((expected, found)) = differs(&entry.sha256, &found.sha256) {
        return Some(("SHA-256", expected, found));
    }
    if let Some((expected, found)) = differs(&entry.md5, &found.md5) {
        return Some(("MD5", expected, found));
    }
    let size = entry.size.filter(|&s| s != found.size)?;
    Some(("size", size.to_string(), found.size.to_string()))
}

/// The entry, completed with the pin of `file` if it has no hash.
pub fn expected(entry: &ModelEntry, file: &Path) -> ModelEntry {
    let mut entry = entry.clone();
    if entry.sha256.is_none() && entry.md5.is_none() {
        entry.sha256 = pinned(file);
    }
    entry
}

/// Reports to `warn` the installed models among `names` whose files differ from the manifest.
///
/// Sizes are compared before this returns, hashes on a background thread. Each version of a file is checked once per
/// process.
pub fn watch(store: &ModelStore, names: &[&str], warn: &Arc<dyn Fn(&str) + Send + Sync>) {
    static SEEN: Mutex<BTreeMap<PathBuf, (Stamp, ModelEntry)>> = Mutex::new(BTreeMap::new());
    let mut files = vec![];
    for name in names {
        let (Ok(Location::Installed(path)), Ok(entry)) = (store.locate(name), store.entry(name)) else { continue };
        let (entry, Some(stamp)) = (expected(&entry, &path), Stamp::of(&path)) else { continue };
        let seen = (stamp, entry.clone());
        let before = lock(&SEEN).insert(path.clone(), seen.clone());
        if before != Some(seen) {
            files.push(((*name).to_owned(), path, entry));
        }
    }
    let say = {
        let warn = warn.clone();
        move |name: &str, path: &Path, (what, expected, found): (&str, String, String)| {
            let path = path.display();
            warn(&format!(
                "{name}: {path} has {what} {found}, {expected} was expected; `ifr models pull {name}` replaces it"
            ));
        }
    };
    files.retain(|(name, path, entry)| {
        let found = fs::metadata(path).map_or(0, |m| m.len());
        match entry.size.filter(|&size| size != found) {
            Some(size) => say(name, path, ("size", size.to_string(), found.to_string())),
            None => return entry.sha256.is_some() || entry.md5.is_some(),
        }
        false
    });
    if files.is_empty() {
        return;
    }
    // The check is optional: loading continues if no thread can be started.
    let _ = std::thread::Builder::new().name("hashes".into()).spawn(move || {
        for (name, path, entry) in files {
            let difference = File::open(&path).and_then(Hashes::of).map(|found| difference(&found, &entry));
            if let Ok(Some(difference)) = difference {
                say(&name, &path, difference);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_properties_of_the_manifest_must_match() {
        let found = Hashes { md5: "aa".into(), sha256: "bb".into(), size: 3 };
        let entry = |md5: Option<&str>, sha256: Option<&str>, size| ModelEntry {
            md5: md5.map(Into::into),
            sha256: sha256.map(Into::into),
            size,
            ..Default::default()
        };
        assert_eq!(difference(&found, &entry(None, None, None)), None);
        assert_eq!(difference(&found, &entry(Some("AA"), Some("bb"), Some(3))), None);
        assert_eq!(difference(&found, &entry(Some("ab"), Some("bb"), None)).unwrap().0, "MD5");
        assert_eq!(difference(&found, &entry(Some("aa"), Some("bc"), None)).unwrap().0, "SHA-256");
        assert_eq!(difference(&found, &entry(None, None, Some(4))), Some(("size", "4".into(), "3".into())));
    }

    #[test]
    fn pins_apply_only_to_entries_without_a_hash() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.onnx");
        assert_eq!(expected(&ModelEntry::default(), &file).sha256, None);
        pin(&file, &"ab".repeat(32)).unwrap();
        assert_eq!(expected(&ModelEntry::default(), &file).sha256, Some("ab".repeat(32)));
        let known = ModelEntry { md5: Some("00".into()), ..Default::default() };
        assert_eq!(expected(&known, &file), known);
    }

    #[test]
    fn different_files_are_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = ModelStore::new(Some(dir.path().into()));
        let told = Arc::new(Mutex::new(vec![]));
        let sink = told.clone();
        let warn: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |text| sink.lock().unwrap().push(text.to_owned()));
        let manifest = serde_json::json!({
            "sized": {"size": 5}, "hashed": {"size": 3, "sha256": "00".repeat(32)}, "unknown": {},
        });
        fs::write(dir.path().join("models.json"), manifest.to_string()).unwrap();
        for name in ["sized", "hashed", "unknown"] {
            let file = store.file(name).unwrap();
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "abc").unwrap();
        }
        for _ in 0..3 {
            watch(&store, &["sized", "hashed", "unknown", "centerface", "absent"], &warn);
        }
        let started = std::time::Instant::now();
        while told.lock().unwrap().len() < 2 && started.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let told = told.lock().unwrap();
        assert!(told.len() == 2 && told[0].contains("size 3, 5") && told[1].contains("SHA-256 ba7816bf"), "{told:?}");
    }
}
