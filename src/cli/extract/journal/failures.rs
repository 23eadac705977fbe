//! The file of failed pictures.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::error::JournalError;
use super::with_suffix;
use crate::files::install_file;

/// Errs if the file `target` could not be written at the end of the run, or if it exists and is not this run's.
///
/// `log` holds the failures until then: a kill between the last two steps of a run leaves a copy of it in `target`.
pub fn check_failures(target: &Path, log: &Path) -> Result<(), JournalError> {
    match target.metadata() {
        Ok(found) if found.is_file() && !same_content(target, log) => {
            return Err(JournalError::OutputExists(target.into()));
        }
        // Devices and pipes are written to.
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

/// Copies the failures to their file.
pub fn write_failures(log: &Path, target: &Path) -> Result<(), JournalError> {
    if target.metadata().is_ok_and(|found| !found.is_file()) {
        let copy = || io::copy(&mut File::open(log)?, &mut File::options().write(true).open(target)?);
        return copy().map(drop).map_err(JournalError::at(target));
    }
    // Copied, because the target may be on another file system.
    let beside = with_suffix(target, ".partial");
    std::fs::copy(log, &beside).map_err(JournalError::at(&beside))?;
    install_file(&beside, target).map_err(JournalError::at(target))
}
