//! The journal of a run that writes a file: the directory `OUT.partial` next to `OUT`.
//!
//! ```text
//! faces.parquet.partial/settings.json     the settings of the run; a run with other settings cannot continue it
//!                      /records.jsonl     a line for each picture that is done, in the order of the inputs
//!                      /failures.jsonl    the failed pictures, if they go to a file of their own
//!                      /lock              locked while a process works here
//! ```
//!
//! A line is written in one call after its picture is done, and never changed. A process that is killed, or a machine
//! that loses power, leaves at worst an incomplete or unreadable end of a file: resuming cuts it off, and those
//! pictures are done again. `OUT` itself is renamed into place when it is complete.

mod error;
mod failures;
mod log;
mod settings;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) use error::JournalError;
pub(super) use failures::check_failures;
pub(super) use log::Done;
pub(super) use settings::{MODELS, VERSION};

use self::failures::write_failures;
use self::log::Log;
use self::settings::check_settings;
use super::record::{PictureStatus, Record};
use crate::files::{install_file, replace_file, sync_directory};

/// Maximum time until written lines are on the disk: a power cut loses the work of this time at most.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// The state of a run on disk.
pub(super) struct Journal {
    partial: PathBuf,
    records: Log,
    /// The failed pictures, and the file that receives them at the end.
    failures: Option<(Log, PathBuf)>,
    last_sync: Instant,
    /// The version of the program that started the run, if it differs from this one.
    pub started_by: Option<String>,
    _lock: File,
}

/// The state of a run that [`Journal::open`] found.
pub(super) enum OpenedRun {
    /// There may be work to do, without the pictures in `Done`.
    Run(Box<Journal>, Done),
    /// The output is complete already.
    Complete,
}

impl Journal {
    /// Starts the run that writes `output`, or continues an unfinished one if `resume` is set.
    ///
    /// `settings` is all that a record depends on; a run is only continued with the same. Failed pictures go to the
    /// file `failures`, if given, which must not exist yet.
    pub fn open(
        output: &Path,
        settings: &Value,
        failures: Option<&Path>,
        resume: bool,
    ) -> Result<OpenedRun, JournalError> {
        let partial = with_suffix(output, ".partial");
        if output.exists() {
            if !resume {
                return Err(JournalError::OutputExists(output.into()));
            }
            // A kill between the last rename and the removal of the directory leaves both.
            if partial.is_dir() {
                let _lock = lock(&partial)?;
                std::fs::remove_dir_all(&partial).map_err(JournalError::at(&partial))?;
            }
            return Ok(OpenedRun::Complete);
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
        let mut started_by = None;
        match std::fs::read(&settings_file) {
            Ok(bytes) => {
                let before: Value = serde_json::from_slice(&bytes)
                    .map_err(|source| JournalError::Json { path: settings_file, source })?;
                check_settings(&partial, &before, settings)?;
                started_by = before[VERSION].as_str().filter(|before| settings[VERSION] != **before).map(str::to_owned);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let content = format!("{settings:#}\n");
                replace_file(&settings_file, content.as_bytes()).map_err(JournalError::at(&settings_file))?;
                let parent = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                sync_directory(parent).map_err(JournalError::at(parent))?;
            }
            Err(source) => return Err(JournalError::Io { path: settings_file, source }),
        }
        let mut done = Done::default();
        let records = Log::open(partial.join("records.jsonl"), &mut done)?;
        let failures = match failures {
            Some(target) => Some((Log::open(failures_log, &mut done)?, target.to_owned())),
            None => None,
        };
        sync_directory(&partial).map_err(JournalError::at(&partial))?;
        let journal = Journal { partial, records, failures, last_sync: Instant::now(), started_by, _lock: lock };
        Ok(OpenedRun::Run(Box::new(journal), done))
    }

    /// Adds a record. After that a kill of the process does not lose it.
    pub fn write(&mut self, record: &Record) -> Result<(), JournalError> {
        let log = match &mut self.failures {
            Some((failures, _)) if record.status == PictureStatus::Failed => failures,
            _ => &mut self.records,
        };
        log.append(record)?;
        if self.last_sync.elapsed() >= SYNC_INTERVAL {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes everything to the disk.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        for log in [Some(&self.records), self.failures.as_ref().map(|(log, _)| log)].into_iter().flatten() {
            log.file.sync_data().map_err(JournalError::at(&log.path))?;
        }
        self.last_sync = Instant::now();
        Ok(())
    }

    /// Writes the file of failures, then the output, which `convert` makes from the records.
    ///
    /// `convert` gets the file of records and the path to write, which is in the directory of the journal.
    pub fn finish(
        mut self,
        output: &Path,
        convert: impl FnOnce(&Path, &Path) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        self.sync()?;
        if let Some((log, target)) = &self.failures {
            write_failures(&log.path, target)?;
        }
        let finished = self.partial.join("finished");
        convert(&self.records.path, &finished)?;
        install_file(&finished, output).map_err(JournalError::at(output))?;
        std::fs::remove_dir_all(&self.partial).map_err(JournalError::at(&self.partial))
    }
}

/// `faces.parquet` → `faces.parquet.partial`.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Locks the journal until the file is dropped. Errs if another process has the lock.
fn lock(partial: &Path) -> Result<File, JournalError> {
    let path = partial.join("lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(JournalError::at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(partial.into())),
        // Some network file systems have no locks; there the user must not start two processes.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(source)) => Err(JournalError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::progress::Totals;
    use super::log::LoggedPicture;
    use super::*;
    use serde_json::json;
    use std::fs::OpenOptions;
    use std::io::Write;

    fn record(path: &str) -> Record {
        Record { status: PictureStatus::Ok, error: None, ..Record::failed(path.into(), 1.0, String::new()) }
    }

    fn run(opened: OpenedRun) -> (Journal, Done) {
        match opened {
            OpenedRun::Run(journal, done) => (*journal, done),
            OpenedRun::Complete => panic!("the run is not complete"),
        }
    }

    fn unchanged(from: &Path, to: &Path) -> Result<(), JournalError> {
        std::fs::rename(from, to).map_err(JournalError::at(to))
    }

    #[test]
    fn an_interrupted_run_continues_after_the_last_whole_line() {
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
        // The remains of a kill during a write and of a power cut: half a line, and zeros.
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
        journal.finish(&out, unchanged).unwrap();
        let paths = |file: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(file).unwrap();
            text.lines().map(|l| serde_json::from_str::<LoggedPicture>(l).unwrap().path).collect()
        };
        assert_eq!(paths(&out), ["a", "b", "b", "d"]);
        assert_eq!(paths(&failures), ["c"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
        assert!(matches!(Journal::open(&out, &settings, Some(&failures), true).unwrap(), OpenedRun::Complete));
    }

    #[test]
    fn runs_that_would_lose_or_mix_results_are_refused() {
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
        journal.finish(&out, unchanged).unwrap();
        assert!(refusal(&settings, false).contains("exists already"));
    }

    #[test]
    fn a_kill_before_the_journal_is_removed_leaves_a_complete_run() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("faces.jsonl");
        drop(run(Journal::open(&out, &json!({}), None, false).unwrap()));
        std::fs::write(&out, b"").unwrap();
        assert!(matches!(Journal::open(&out, &json!({}), None, true).unwrap(), OpenedRun::Complete));
        assert!(!dir.path().join("faces.jsonl.partial").exists());
    }

    #[test]
    fn a_changed_model_file_is_refused_and_another_version_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("faces.jsonl");
        let settings = |version: &str, hash: &str| {
            let models = json!({"mine": hash, "centerface": "SHA-256 00"});
            json!({"rec_name": "mine", "models": models, "version": version})
        };
        drop(run(Journal::open(&out, &settings("1.0.0", "SHA-256 aa"), None, false).unwrap()));
        let journal = run(Journal::open(&out, &settings("1.0.0", "SHA-256 aa"), None, true).unwrap()).0;
        assert_eq!(journal.started_by, None);
        drop(journal);
        let journal = run(Journal::open(&out, &settings("1.1.0", "SHA-256 aa"), None, true).unwrap()).0;
        assert_eq!(journal.started_by.as_deref(), Some("1.0.0"));
        drop(journal);
        let refused = Journal::open(&out, &settings("1.0.0", "SHA-256 bb"), None, true).err().unwrap().to_string();
        let sentence = r#"(the file of model 'mine' has changed: "SHA-256 aa", now "SHA-256 bb")"#;
        assert!(refused.contains(sentence), "{refused}");
    }

    #[test]
    fn the_failures_file_is_writable_and_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (out, failures) = (dir.path().join("faces.jsonl"), dir.path().join("failures.jsonl"));
        let open = |failures: &Path, resume| Journal::open(&out, &json!({}), Some(failures), resume);
        let missing = open(&dir.path().join("missing/failures.jsonl"), false).err().unwrap().to_string();
        assert!(missing.contains("missing/failures.jsonl"), "{missing}");
        std::fs::write(&failures, "precious").unwrap();
        assert!(matches!(open(&failures, false), Err(JournalError::OutputExists(path)) if path == failures));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was started");
        std::fs::remove_file(&failures).unwrap();
        let mut journal = run(open(&failures, false).unwrap()).0;
        journal.write(&Record::failed("a".into(), 1.0, "broken".into())).unwrap();
        // A kill after the failures were renamed into place, but before the output was.
        std::fs::copy(dir.path().join("faces.jsonl.partial/failures.jsonl"), &failures).unwrap();
        drop(journal);
        let (journal, done) = run(open(&failures, true).unwrap());
        assert_eq!(done.totals, Totals { pictures: 1, faces: 0, failed: 1 });
        journal.finish(&out, unchanged).unwrap();
        assert_eq!(std::fs::read_to_string(&failures).unwrap().lines().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }
}
