//! One member out of a zip archive.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{FetchError, MOST_BYTES};

/// Writes the member to `part`. It is found by its name in whatever folder of the archive it lies.
pub(super) fn extract(archive: &Path, member: &str, part: &Path, url: &str) -> Result<(), FetchError> {
    let failed = |reason: String| FetchError::Archive { url: url.into(), reason };
    let file = File::open(archive).map_err(FetchError::file(archive))?;
    let mut zip = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|e| failed(format!("no zip archive: {e}")))?;
    let names: Vec<String> = zip.file_names().flatten().map(|n| n.into_owned()).collect();
    let Some(name) = names.iter().find(|n| *n == member || n.ends_with(&format!("/{member}"))) else {
        return Err(failed(format!("the archive has no member {member}; it has {}", names.join(", "))));
    };
    let member = zip.by_name(name).map_err(|e| failed(e.to_string()))?;
    // The size an archive declares may be a lie; what counts is what comes out.
    let mut limited = member.take(MOST_BYTES + 1);
    let mut out = File::create(part).map_err(FetchError::file(part))?;
    let written = io::copy(&mut limited, &mut out).map_err(|e| failed(format!("{name} cannot be unpacked: {e}")))?;
    if written > MOST_BYTES {
        return Err(FetchError::TooLarge { url: url.into(), limit: MOST_BYTES });
    }
    out.sync_all().map_err(FetchError::file(part))
}
