//! Members of zip archives, which several processes may use at once.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{ArchiveError, FetchError};
use super::{MAX_MODEL_BYTES, lock};
use crate::files::install_file;
use crate::models::hash::sha256;

/// Archives from which this process extracts members. They are kept until the end, because the members of a pack share
/// an archive. The last process that uses an archive removes it.
#[derive(Default)]
pub(super) struct Archives(Vec<Archive>);

struct Archive {
    path: PathBuf,
    /// Shared lock of all processes that use the archive.
    users: File,
}

impl Archives {
    /// Calls `with` with the archive at `url`, which `fetch` downloads into the file it is given if it is not in
    /// `downloads`.
    ///
    /// The archive is removed if `with` errs: a damaged one would block the next attempt.
    pub fn open(
        &mut self,
        downloads: &Path,
        url: &str,
        fetch: impl FnOnce(&Path) -> Result<(), FetchError>,
        with: impl FnOnce(File) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let path = downloads.join(format!("{}.zip", &sha256(url.as_bytes())[..16]));
        let _lock = lock(&path.with_extension("lock"))?;
        if !self.0.iter().any(|archive| archive.path == path) {
            let users = path.with_extension("users.lock");
            let failed = FetchError::file(&users);
            let users = File::options().create(true).write(true).truncate(false).open(&users);
            let users = users.and_then(|file| file.lock_shared().map(|()| file)).map_err(failed)?;
            self.0.push(Archive { path: path.clone(), users });
        }
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let whole = path.with_extension("part");
                fetch(&whole)?;
                install_file(&whole, &path).and_then(|()| File::open(&path)).map_err(FetchError::file(&path))?
            }
            other => other.map_err(FetchError::file(&path))?,
        };
        let result = with(file);
        if result.is_err() {
            drop(fs::remove_file(&path));
        }
        result
    }
}

impl Drop for Archives {
    fn drop(&mut self) {
        for Archive { path, users } in self.0.drain(..) {
            // Without a file another process may be downloading it.
            if !path.is_file() {
                continue;
            }
            let Ok(_lock) = lock(&path.with_extension("lock")) else { continue };
            let is_last = users.unlock().is_ok() && users.try_lock().is_ok();
            if is_last {
                drop(fs::remove_file(&path));
            }
        }
    }
}

/// Writes a member to `part`. The member may be in any folder of the archive.
pub(super) fn extract(archive: File, member: &str, part: &Path, url: &str) -> Result<(), FetchError> {
    let failed = |source| FetchError::Archive { url: url.into(), source };
    let reader = io::BufReader::new(archive);
    let mut zip = zip::ZipArchive::new(reader).map_err(|source| failed(ArchiveError::NotAZip(source)))?;
    let names: Vec<String> = zip.file_names().flatten().map(|n| n.into_owned()).collect();
    let Some(name) = names.iter().find(|n| *n == member || n.ends_with(&format!("/{member}"))) else {
        return Err(failed(ArchiveError::NoMember { member: member.into(), names }));
    };
    let member = zip.by_name(name).map_err(|source| failed(source.into()))?;
    // The declared size of a member may be wrong; the limit applies to the extracted bytes.
    let mut limited = member.take(MAX_MODEL_BYTES + 1);
    let mut out = File::create(part).map_err(FetchError::file(part))?;
    let unpacked = io::copy(&mut limited, &mut out);
    let written = unpacked.map_err(|source| failed(ArchiveError::Unpack { name: name.clone(), source }))?;
    if written > MAX_MODEL_BYTES {
        return Err(FetchError::TooLarge { url: url.into(), limit: MAX_MODEL_BYTES });
    }
    out.sync_all().map_err(FetchError::file(part))
}
