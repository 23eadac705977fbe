//! Inputs: files, directories and standard input.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// The source of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Stdin,
    File(PathBuf),
    /// An entry that a directory walk could not read.
    Unreadable {
        path: String,
        error: String,
    },
}

impl Input {
    /// The name of the input in the output.
    pub fn name(&self) -> String {
        match self {
            Input::Stdin => "-".into(),
            Input::File(path) => path.to_string_lossy().into_owned(),
            Input::Unreadable { path, .. } => path.clone(),
        }
    }

    /// Reads the bytes. Errs if there are more than `limit`.
    pub fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        match self {
            Input::Stdin => io::stdin().lock().take(limit + 1).read_to_end(&mut bytes)?,
            Input::File(path) => std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?,
            Input::Unreadable { error, .. } => return Err(io::Error::other(error.clone())),
        };
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("larger than {} MiB", limit >> 20)));
        }
        Ok(bytes)
    }
}

/// The inputs in the order of the arguments; directories are walked lazily in the order of names.
///
/// Directories contribute only pictures: files with the extension or the signature of a picture format. Links to
/// directories are not followed. Only regular files are read, because reading a pipe would wait for its writer.
pub(super) struct Inputs {
    named: std::vec::IntoIter<PathBuf>,
    walk: Option<(PathBuf, walkdir::IntoIter)>,
    /// Number of files in directories that were skipped so far.
    pub skipped: usize,
}

impl Inputs {
    pub fn new(named: Vec<PathBuf>) -> Inputs {
        Inputs { named: named.into_iter(), walk: None, skipped: 0 }
    }
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        loop {
            let Some((root, walk)) = &mut self.walk else {
                let path = self.named.next()?;
                if path.as_os_str() == "-" {
                    return Some(Input::Stdin);
                }
                if !path.is_dir() {
                    return Some(Input::File(path));
                }
                let walk = WalkDir::new(&path).sort_by_file_name().into_iter();
                self.walk = Some((path, walk));
                continue;
            };
            match walk.next() {
                None => self.walk = None,
                Some(Ok(entry)) if entry.path().is_dir() => {}
                Some(Ok(entry)) if is_picture(entry.path()) => return Some(Input::File(entry.into_path())),
                Some(Ok(_)) => self.skipped += 1,
                Some(Err(error)) => {
                    return Some(Input::Unreadable {
                        path: error.path().unwrap_or(root).to_string_lossy().into_owned(),
                        error: error.to_string(),
                    });
                }
            }
        }
    }
}

fn is_picture(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(metadata) => metadata.is_file() && (has_picture_extension(path) || has_picture_signature(path)),
        // A broken link is reported when it is read.
        Err(_) => has_picture_extension(path),
    }
}

fn has_picture_extension(path: &Path) -> bool {
    const EXTENSIONS: [&str; 10] = ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"];
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e.to_ascii_lowercase().as_str()))
}

fn has_picture_signature(path: &Path) -> bool {
    let mut start = [0u8; 16];
    let read = std::fs::File::open(path).and_then(|mut f| f.read(&mut start));
    read.is_ok_and(|n| n > 0) && image::guess_format(&start).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_give_their_pictures_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("sub/b.JPG"), b"no matter what is in it").unwrap();
        std::fs::write(at("notes.txt"), b"text").unwrap();
        std::fs::write(at("nameless"), b"\x89PNG\r\n\x1a\n").unwrap();
        std::fs::write(at("empty"), b"").unwrap();
        let mut walk = Inputs::new(vec![dir.path().into(), "-".into(), "gone.jpg".into()]);
        let inputs: Vec<Input> = walk.by_ref().collect();
        let expected = [at("nameless"), at("sub/b.JPG")].map(Input::File);
        assert_eq!(inputs[..2], expected);
        assert_eq!(inputs[2..], [Input::Stdin, Input::File("gone.jpg".into())]);
        assert_eq!(walk.skipped, 2);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_in_directories_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("a.jpg");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::os::unix::fs::symlink(&pipe, dir.path().join("b.jpg")).unwrap();
        std::os::unix::fs::symlink("/nowhere", dir.path().join("c.jpg")).unwrap();
        let mut walk = Inputs::new(vec![dir.path().into()]);
        assert_eq!(walk.by_ref().collect::<Vec<_>>(), [Input::File(dir.path().join("c.jpg"))]);
        assert_eq!(walk.skipped, 2);
        // A pipe that is an argument is read to its end, such as <(...) of a shell.
        let writer = {
            let pipe = pipe.clone();
            std::thread::spawn(move || std::fs::write(pipe, b"bytes").unwrap())
        };
        assert_eq!(Input::File(pipe).read(100).unwrap(), b"bytes");
        writer.join().unwrap();
        assert!(Input::File("/dev/zero".into()).read(100).is_err());
    }

    #[test]
    fn large_files_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 100]).unwrap();
        let input = Input::File(file.path().into());
        assert_eq!(input.read(100).unwrap().len(), 100);
        assert!(input.read(99).is_err());
    }
}
