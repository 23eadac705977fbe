//! Atomic replacement of files: a reader sees the old content or the new content, also after a crash or a power
//! failure.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes `content` to a temporary file next to `path` and renames it to `path`.
///
/// # Errors
///
/// If the file cannot be written or renamed; `path` is unchanged.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = temporary_path(path);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| install_file(&temporary, path));
    written.inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Renames the complete file `from` to `to` on the same file system. The content is on the disk before the new name is.
///
/// # Errors
///
/// If `from` cannot be read or renamed, or the disk cannot be synchronized.
pub fn install_file(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    sync_directory(to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Writes the names in a directory to the disk, so that created and renamed files survive a power failure. Does nothing
/// where the system cannot synchronize directories.
///
/// # Errors
///
/// If the directory cannot be opened or synchronized for another reason.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        // Directories without read permission, and file systems that cannot synchronize directories.
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Ok(()),
            _ => Err(error),
        },
        done => done,
    }
}

/// A unique path in the directory of `path`.
fn temporary_path(path: &Path) -> PathBuf {
    static COUNTER: AtomicUsize = AtomicUsize::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{}.partial", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_completely_or_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        for content in ["old", "new"] {
            replace_file(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let directory = dir.path().join("directory");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("inside"), "").unwrap();
        assert!(replace_file(&directory, b"content").is_err(), "a directory cannot be replaced by a file");
        assert!(install_file(&dir.path().join("absent"), &path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
