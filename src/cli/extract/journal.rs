//! Where a run that writes a file keeps what it has done: `OUT.partial` beside `OUT`.
//!
//! ```text
//! faces.parquet.partial/settings.json     what the run was started with; another cannot be resumed into it
//!                      /records.jsonl     a line for each picture that is done, in the order of the inputs
//!                      /failures.jsonl    the failed ones, when they go to a file of their own
//!                      /lock              held while a process works here
//! ```
//!
//! A line is written in one call after its picture is done and never changed. A process that is killed, or a machine that loses
//! power, leaves at worst an unfinished or unreadable end of a file: resuming cuts it off, and those pictures are done again. `OUT`
//! itself appears when everything is in it, by renaming.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::progress::Totals;
use super::record::{Record, Status};

/// How long written lines may wait until they are forced to disk: what a power cut can cost.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// Why a run cannot start, resume or go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("{0} exists already: delete it, or choose another name")]
    OutputExists(PathBuf),
    #[error("an unfinished run is in {0}: continue it with --resume, or delete that directory to start again")]
    Unfinished(PathBuf),
    #[error("another process works in {0}")]
    Locked(PathBuf),
    #[error(
        "the run in {partial} was started with other settings ({differences}): use those, or delete it to start again"
    )]
    OtherSettings { partial: PathBuf, differences: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {detail}")]
    Content { path: PathBuf, detail: String },
}

impl JournalError {
    /// For `map_err`: names the file an error belongs to.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> JournalError {
        move |source| JournalError::Io { path: path.into(), source }
    }
}

/// The state of a run on disk.
pub(super) struct Journal {
    partial: PathBuf,
    records: Log,
    /// The failed ones, and the file that they go to at the end.
    failures: Option<(Log, PathBuf)>,
    last_sync: Instant,
    /// The version of the program that began the run, if it was another one.
    pub begun_by: Option<String>,
    _lock: File,
}

/// What [`Journal::open`] found.
pub(super) enum Opened {
    /// There is work to do; the pictures in `Done` are not part of it.
    Run(Box<Journal>, Done),
    /// The output is complete already.
    Complete,
}

impl Journal {
    /// Starts the run that writes `output`, or continues one when `resume` says so and there is one.
    ///
    /// `settings` is everything that decides what a record says; a run is only continued with the same. Failed pictures go to the file
    /// `failures`, if there is one, which must not exist yet.
    pub fn open(
        output: &Path,
        settings: &Value,
        failures: Option<&Path>,
        resume: bool,
    ) -> Result<Opened, JournalError> {
        let partial = with_suffix(output, ".partial");
        if output.exists() {
            if !resume {
                return Err(JournalError::OutputExists(output.into()));
            }
            // A kill between the last rename and the clearing up leaves both.
            if partial.is_dir() {
                let _lock = lock(&partial)?;
                std::fs::remove_dir_all(&partial).map_err(JournalError::at(&partial))?;
            }
            return Ok(Opened::Complete);
        }
        let settings_file = partial.join("settings.json");
        if settings_file.exists() && !resume {
            return Err(JournalError::Unfinished(partial));
        }
        let failures_log = partial.join("failures.jsonl");
        if let Some(target) = failures {
            check_failures(target, &failures_log)?;
        }
        std::fs::create_dir_all(&partial).map_err(JournalError::at(&partial))?;
        let lock = lock(&partial)?;
        let mut begun_by = None;
        match std::fs::read(&settings_file) {
            Ok(bytes) => {
                let before: Value = serde_json::from_slice(&bytes)
                    .map_err(|e| JournalError::Content { path: settings_file, detail: e.to_string() })?;
                check_settings(&partial, &before, settings)?;
                begun_by = before[VERSION].as_str().filter(|before| settings[VERSION] != **before).map(str::to_owned);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_durably(&settings_file, format!("{settings:#}\n").as_bytes())?;
                sync_dir(parent(output))?;
            }
            Err(source) => return Err(JournalError::Io { path: settings_file, source }),
        }
        let mut done = Done::default();
        let records = Log::open(partial.join("records.jsonl"), &mut done)?;
        let failures = match failures {
            Some(target) => Some((Log::open(failures_log, &mut done)?, target.to_owned())),
            None => None,
        };
        sync_dir(&partial)?;
        let journal = Journal { partial, records, failures, last_sync: Instant::now(), begun_by, _lock: lock };
        Ok(Opened::Run(Box::new(journal), done))
    }

    /// Adds a record; from here on a kill of the process does not lose it.
    pub fn write(&mut self, record: &Record) -> Result<(), JournalError> {
        let log = match &mut self.failures {
            Some((failures, _)) if record.status == Status::Failed => failures,
            _ => &mut self.records,
        };
        log.append(record)?;
        if self.last_sync.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    /// Forces everything to disk.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        for log in [Some(&self.records), self.failures.as_ref().map(|(log, _)| log)].into_iter().flatten() {
            log.file.sync_data().map_err(JournalError::at(&log.path))?;
        }
        self.last_sync = Instant::now();
        Ok(())
    }

    /// Puts the results where they belong: failures to their file, then the output, made from the records by `convert`.
    ///
    /// `convert` gets the file of records and the path to write, which is in the same directory as `output`'s journal.
    pub fn finish(
        mut self,
        output: &Path,
        convert: impl FnOnce(&Path, &Path) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        self.sync()?;
        if let Some((log, target)) = &self.failures {
            put_failures(&log.path, target)?;
        }
        let finished = self.partial.join("finished");
        convert(&self.records.path, &finished)?;
        File::open(&finished).and_then(|f| f.sync_all()).map_err(JournalError::at(&finished))?;
        std::fs::rename(&finished, output).map_err(JournalError::at(output))?;
        sync_dir(parent(output))?;
        std::fs::remove_dir_all(&self.partial).map_err(JournalError::at(&self.partial))
    }
}

/// A file of lines that only grows.
struct Log {
    path: PathBuf,
    file: File,
}

/// The part of a line that says which picture it is about; reading it checks the line's syntax.
#[derive(Deserialize)]
struct Line {
    path: String,
    status: Status,
    faces: Vec<IgnoredAny>,
}

impl Log {
    /// Opens the file, cuts off what is not whole lines, and notes the pictures of those that are.
    fn open(path: PathBuf, done: &mut Done) -> Result<Log, JournalError> {
        let at = |source| JournalError::Io { path: path.clone(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(at)?;
        let length = file.metadata().map_err(at)?.len();
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let mut line = vec![];
        let mut whole = 0;
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(at)? as u64;
            if read == 0 || line.last() != Some(&b'\n') {
                break;
            }
            let Ok(line) = serde_json::from_slice(&line) else { break };
            done.add(&line);
            whole += read;
        }
        if whole < length {
            tracing::warn!(file = %path.display(), bytes = length - whole, "cut off an unfinished end");
            file.set_len(whole).map_err(at)?;
        }
        Ok(Log { path, file })
    }

    fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let written = record.line().map_err(io::Error::from).and_then(|line| self.file.write_all(&line));
        written.map_err(JournalError::at(&self.path))
    }
}

/// The pictures that earlier runs have done: how often each path, 16 bytes a path.
#[derive(Default)]
pub(super) struct Done {
    keys: [RandomState; 2],
    left: HashMap<u128, u32>,
    pub totals: Totals,
}

impl Done {
    fn add(&mut self, line: &Line) {
        *self.left.entry(self.key(&line.path)).or_default() += 1;
        self.totals.add(line.faces.len(), line.status);
    }

    /// Whether this occurrence of the path is done; each answer of yes uses one up, so a path named twice is done twice.
    pub fn take(&mut self, path: &str) -> bool {
        let key = self.key(path);
        match self.left.get_mut(&key) {
            Some(1) => self.left.remove(&key).is_some(),
            Some(count) => {
                *count -= 1;
                true
            }
            None => false,
        }
    }

    fn key(&self, path: &str) -> u128 {
        let [a, b] = &self.keys;
        u128::from(a.hash_one(path)) << 64 | u128::from(b.hash_one(path))
    }
}

/// `faces.parquet` → `faces.parquet.partial`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn lock(partial: &Path) -> Result<File, JournalError> {
    let path = partial.join("lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(JournalError::at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(partial.into())),
        // Some network file systems have no locks; then it is up to the user not to start two.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(source)) => Err(JournalError::Io { path, source }),
    }
}

/// The setting that says which version of the program began a run. Another one may go on with it.
pub(super) const VERSION: &str = "version";
/// The setting that says of each model which file it is.
pub(super) const MODELS: &str = "models";

fn check_settings(partial: &Path, before: &Value, now: &Value) -> Result<(), JournalError> {
    let mut differences: Vec<String> = differences(before, now)
        .filter(|(key, ..)| !matches!(key.as_str(), VERSION | MODELS))
        .map(|(key, before, now)| format!("{key} {before}, now {now}"))
        .collect();
    if differences.is_empty() {
        let other = |(name, before, now)| format!("the file of model '{name}' was another one: {before}, now {now}");
        differences.extend(self::differences(&before[MODELS], &now[MODELS]).map(other));
    }
    match differences.is_empty() {
        true => Ok(()),
        false => Err(JournalError::OtherSettings { partial: partial.into(), differences: differences.join("; ") }),
    }
}

/// The fields of two objects that are not the same, with both values.
fn differences(before: &Value, now: &Value) -> impl Iterator<Item = (String, Value, Value)> {
    let fields = |v: &Value| v.as_object().cloned().unwrap_or_default();
    let (before, now) = (fields(before), fields(now));
    let keys: Vec<String> = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key))).cloned().collect();
    let value = |of: &serde_json::Map<String, Value>, key: &str| of.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(move |key| (value(&before, &key), value(&now, &key), key))
        .filter(|(a, b, _)| a != b)
        .map(|(a, b, key)| (key, a, b))
}

/// Errs when the failures could not be put there at the end, or when something is there that this run has not put there.
///
/// `log` is where they are until then: a kill between the last two steps of a run leaves a copy of it.
pub(super) fn check_failures(target: &Path, log: &Path) -> Result<(), JournalError> {
    match target.metadata() {
        Ok(found) if found.is_file() && !same_content(target, log) => {
            return Err(JournalError::OutputExists(target.into()));
        }
        // A device or a pipe is written to as it is.
        Ok(found) if !found.is_file() && !found.is_dir() => return Ok(()),
        _ => {}
    }
    let beside = with_suffix(target, ".partial");
    let created = File::options().append(true).create(true).open(&beside);
    created.and_then(|_| std::fs::remove_file(&beside)).map_err(JournalError::at(target))
}

fn same_content(a: &Path, b: &Path) -> bool {
    let bytes = |path| io::Result::Ok(BufReader::new(File::open(path)?).bytes());
    match (bytes(a), bytes(b)) {
        (Ok(a), Ok(b)) => a.map(Result::ok).eq(b.map(Result::ok)),
        _ => false,
    }
}

fn put_failures(log: &Path, target: &Path) -> Result<(), JournalError> {
    if target.metadata().is_ok_and(|found| !found.is_file()) {
        let copy = || io::copy(&mut File::open(log)?, &mut File::options().write(true).open(target)?);
        return copy().map(drop).map_err(JournalError::at(target));
    }
    // The target may be on another file system, where a rename cannot go.
    let beside = with_suffix(target, ".partial");
    std::fs::copy(log, &beside).map_err(JournalError::at(&beside))?;
    File::open(&beside).and_then(|f| f.sync_all()).map_err(JournalError::at(&beside))?;
    std::fs::rename(&beside, target).map_err(JournalError::at(target))
}

/// Writes a file that is either whole or absent, whatever happens meanwhile.
fn write_durably(path: &Path, content: &[u8]) -> Result<(), JournalError> {
    let beside = with_suffix(path, ".new");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(JournalError::at(path))
}

/// Makes names created or renamed in a directory survive a power cut.
fn sync_dir(dir: &Path) -> Result<(), JournalError> {
    if cfg!(unix) { File::open(dir).and_then(|d| d.sync_all()).map_err(JournalError::at(dir)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(path: &str) -> Record {
        Record { status: Status::Ok, error: None, ..Record::failed(path.into(), 1.0, String::new()) }
    }

    fn run(opened: Opened) -> (Journal, Done) {
        match opened {
            Opened::Run(journal, done) => (*journal, done),
            Opened::Complete => panic!("nothing was finished yet"),
        }
    }

    fn as_it_is(from: &Path, to: &Path) -> Result<(), JournalError> {
        std::fs::rename(from, to).map_err(JournalError::at(to))
    }

    #[test]
    fn an_interrupted_run_goes_on_after_the_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("faces.jsonl");
        let settings = json!({"det_name": "centerface"});
        let failures = dir.path().join("failures.jsonl");
        let (mut journal, _) = run(Journal::open(&out, &settings, Some(&failures), false).unwrap());
        for name in ["a", "b", "b"] {
            journal.write(&record(name)).unwrap();
        }
        journal.write(&Record::failed("c".into(), 1.0, "broken".into())).unwrap();
        drop(journal);
        let log = dir.path().join("faces.jsonl.partial/records.jsonl");
        // What a kill in the middle of a write and a power cut leave: half a line, and zeros.
        for damage in [&br#"{"path":"d","status":"ok","took"#[..], &[0; 5000], b"{\"path\":\"d\"}\n\0\0\n"] {
            OpenOptions::new().append(true).open(&log).unwrap().write_all(damage).unwrap();
            let (journal, mut done) = run(Journal::open(&out, &settings, Some(&failures), true).unwrap());
            assert_eq!(done.totals, Totals { pictures: 4, faces: 0, failed: 1 });
            assert_eq!(
                ["a", "a", "b", "b", "b", "c", "d"].map(|p| done.take(p)),
                [true, false, true, true, false, true, false]
            );
            drop(journal);
        }
        let (mut journal, _) = run(Journal::open(&out, &settings, Some(&failures), true).unwrap());
        journal.write(&record("d")).unwrap();
        journal.finish(&out, as_it_is).unwrap();
        let paths = |file: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(file).unwrap();
            text.lines().map(|l| serde_json::from_str::<Line>(l).unwrap().path).collect()
        };
        assert_eq!(paths(&out), ["a", "b", "b", "d"]);
        assert_eq!(paths(&failures), ["c"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
        assert!(matches!(Journal::open(&out, &settings, Some(&failures), true).unwrap(), Opened::Complete));
    }

    #[test]
    fn what_would_lose_or_mix_results_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("faces.jsonl");
        let settings = json!({"det_name": "centerface", "threshold": 0.6});
        let journal = run(Journal::open(&out, &settings, None, false).unwrap()).0;
        let refusal = |settings: &Value, resume| match Journal::open(&out, settings, None, resume) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("must be refused"),
        };
        assert!(refusal(&settings, true).contains("another process works in"));
        drop(journal);
        assert!(refusal(&settings, false).contains("continue it with --resume"));
        let other = refusal(&json!({"det_name": "scrfd", "threshold": 0.6}), true);
        assert!(other.contains(r#"(det_name "centerface", now "scrfd")"#), "{other}");
        let journal = run(Journal::open(&out, &settings, None, true).unwrap()).0;
        journal.finish(&out, as_it_is).unwrap();
        assert!(refusal(&settings, false).contains("exists already"));
    }

    #[test]
    fn a_kill_between_the_last_rename_and_the_clearing_up_leaves_a_complete_run() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("faces.jsonl");
        drop(run(Journal::open(&out, &json!({}), None, false).unwrap()));
        std::fs::write(&out, b"").unwrap();
        assert!(matches!(Journal::open(&out, &json!({}), None, true).unwrap(), Opened::Complete));
        assert!(!dir.path().join("faces.jsonl.partial").exists());
    }
    #[test]
    fn another_file_of_a_model_is_refused_and_another_version_only_told() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("faces.jsonl");
        let settings = |version: &str, hash: &str| json!({"rec_name": "mine", "models": {"mine": hash, "centerface": "SHA-256 00"}, "version": version});
        drop(run(Journal::open(&out, &settings("1.0.0", "SHA-256 aa"), None, false).unwrap()));
        let journal = run(Journal::open(&out, &settings("1.0.0", "SHA-256 aa"), None, true).unwrap()).0;
        assert_eq!(journal.begun_by, None);
        drop(journal);
        let journal = run(Journal::open(&out, &settings("1.1.0", "SHA-256 aa"), None, true).unwrap()).0;
        assert_eq!(journal.begun_by.as_deref(), Some("1.0.0"));
        drop(journal);
        let refused = Journal::open(&out, &settings("1.0.0", "SHA-256 bb"), None, true).err().unwrap().to_string();
        let sentence = r#"(the file of model 'mine' was another one: "SHA-256 aa", now "SHA-256 bb")"#;
        assert!(refused.contains(sentence), "{refused}");
    }

    #[test]
    fn a_file_for_failures_is_not_overwritten_and_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (out, failures) = (dir.path().join("faces.jsonl"), dir.path().join("failures.jsonl"));
        let open = |failures: &Path, resume| Journal::open(&out, &json!({}), Some(failures), resume);
        let missing = open(&dir.path().join("missing/failures.jsonl"), false).err().unwrap().to_string();
        assert!(missing.contains("missing/failures.jsonl"), "{missing}");
        std::fs::write(&failures, "precious").unwrap();
        assert!(matches!(open(&failures, false), Err(JournalError::OutputExists(path)) if path == failures));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was begun");
        std::fs::remove_file(&failures).unwrap();
        let mut journal = run(open(&failures, false).unwrap()).0;
        journal.write(&Record::failed("a".into(), 1.0, "broken".into())).unwrap();
        // A kill after the failures were put in their place, before the output was.
        std::fs::copy(dir.path().join("faces.jsonl.partial/failures.jsonl"), &failures).unwrap();
        drop(journal);
        let (journal, done) = run(open(&failures, true).unwrap());
        assert_eq!(done.totals, Totals { pictures: 1, faces: 0, failed: 1 });
        journal.finish(&out, as_it_is).unwrap();
        assert_eq!(std::fs::read_to_string(&failures).unwrap().lines().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }
}
