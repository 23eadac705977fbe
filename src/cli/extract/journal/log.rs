//! The files of the journal that hold a line for each picture.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::progress::Totals;
use super::super::record::{PictureStatus, Record};
use super::error::JournalError;

/// A file of lines that are only appended.
pub struct Log {
    pub path: PathBuf,
    pub file: File,
}

/// The fields of a line that a resumed run needs; reading them checks the syntax of the line.
#[derive(Deserialize)]
pub struct LoggedPicture {
    pub path: String,
    status: PictureStatus,
    faces: Vec<IgnoredAny>,
}

impl Log {
    /// Opens the file, cuts off the end that is not whole lines, and adds the pictures of the whole lines to `done`.
    pub fn open(path: PathBuf, done: &mut Done) -> Result<Log, JournalError> {
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
            tracing::warn!(file = %path.display(), bytes = length - whole, "cut off an incomplete end");
            file.set_len(whole).map_err(at)?;
        }
        Ok(Log { path, file })
    }

    /// Adds a record as one line.
    pub fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let written = record.line().map_err(io::Error::from).and_then(|line| self.file.write_all(&line));
        written.map_err(JournalError::at(&self.path))
    }
}

/// The pictures that earlier runs have done: the number of times that each path was done, in 16 bytes per path.
#[derive(Default)]
pub struct Done {
    keys: [RandomState; 2],
    left: HashMap<u128, u32>,
    pub totals: Totals,
}

impl Done {
    fn add(&mut self, line: &LoggedPicture) {
        *self.left.entry(self.key(&line.path)).or_default() += 1;
        self.totals.add(line.faces.len(), line.status);
    }

    /// True if this occurrence of the path is done. Each `true` uses up one of its records: a path that is named twice
    /// is done twice.
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
