//! Image paths of clients: only regular files below ROOT_IMAGES_DIR, after every symbolic link is resolved.

use crate::text::for_message;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The reason why a path was not read. The messages do not reveal which files exist outside the root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The service runs without ROOT_IMAGES_DIR.
    #[error("paths are not enabled: '{0}' was refused because ROOT_IMAGES_DIR is not set")]
    NotEnabled(String),
    /// The path leads out of the root, or is not a path.
    #[error("'{0}' is not below ROOT_IMAGES_DIR")]
    Outside(String),
    /// There is no such file. The message is that of the original.
    #[error("File: '{0}' not found")]
    NotFound(String),
    /// The path names a directory, a device, a pipe or a socket.
    #[error("'{0}' is not a regular file")]
    NotAFile(String),
    /// The file is larger than the limit for one image.
    #[error("'{path}' has more than {limit} bytes")]
    TooLarge {
        /// The path as the client wrote it.
        path: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The memory for the bodies and images of all requests is used up.
    #[error("'{0}' cannot be read: the service holds too many images at the moment; try again later")]
    NoRoom(String),
    /// The system refuses to read the file.
    #[error("'{path}' cannot be read: {reason}")]
    Unreadable {
        /// The path as the client wrote it.
        path: String,
        /// The kind of the error, without paths.
        reason: String,
    },
}

/// The directory whose files clients may name.
#[derive(Clone, Debug)]
pub struct ImageRoot {
    root: Option<PathBuf>,
    max_bytes: u64,
}

impl ImageRoot {
    /// A root with a limit of `max_bytes` per file. `root` is resolved once, here; `None` refuses all paths. Errs if
    /// the directory does not exist.
    pub fn new(root: Option<&Path>, max_bytes: u64) -> std::io::Result<Self> {
        let root = root.map(Path::canonicalize).transpose()?;
        if let Some(root) = &root
            && !root.is_dir()
        {
            return Err(std::io::Error::other(format!("{} is not a directory", root.display())));
        }
        Ok(ImageRoot { root, max_bytes })
    }

    /// Reads the file at `path`, which is relative to the root or absolute and below it. `room` reserves a number of
    /// bytes of memory and returns false if they are not available.
    pub fn read(&self, path: &str, room: &mut dyn FnMut(u64) -> bool) -> Result<Vec<u8>, PathError> {
        let Some(root) = &self.root else {
            return Err(PathError::NotEnabled(for_message(path)));
        };
        let resolved = resolve(root, path)?;
        let file = open(&resolved, path)?;
        confirm(root, &file, path)?;
        let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
        if !metadata.is_file() {
            return Err(PathError::NotAFile(for_message(path)));
        }
        let too_large = || PathError::TooLarge { path: for_message(path), limit: self.max_bytes };
        let length = metadata.len();
        if length > self.max_bytes {
            return Err(too_large());
        }
        if !room(length) {
            return Err(PathError::NoRoom(for_message(path)));
        }
        let mut bytes = Vec::with_capacity(length as usize + 1);
        // One byte more than allowed, to notice a file that grows during the read.
        file.take(self.max_bytes + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
        if bytes.len() as u64 > self.max_bytes {
            return Err(too_large());
        }
        if !room((bytes.len() as u64).saturating_sub(length)) {
            return Err(PathError::NoRoom(for_message(path)));
        }
        Ok(bytes)
    }
}

/// The path of the file with all links resolved, which is below `root`.
fn resolve(root: &Path, path: &str) -> Result<PathBuf, PathError> {
    if path.is_empty() || path.contains('\0') || path.len() > 4096 {
        return Err(PathError::Outside(for_message(path)));
    }
    let joined = root.join(path);
    // Clients do not need `..`. Refusing it here gives the same answer for existing and missing files.
    if joined.components().any(|part| part == Component::ParentDir) || !joined.starts_with(root) {
        return Err(PathError::Outside(for_message(path)));
    }
    match joined.canonicalize() {
        Ok(resolved) if resolved.starts_with(root) => Ok(resolved),
        Ok(_) => Err(PathError::Outside(for_message(path))),
        Err(_) => {
            // A missing file behind a link out of the root must get the same answer as an existing one.
            let ancestor = joined.ancestors().skip(1).find_map(|ancestor| ancestor.canonicalize().ok());
            match ancestor {
                Some(ancestor) if ancestor.starts_with(root) => Err(PathError::NotFound(for_message(path))),
                _ => Err(PathError::Outside(for_message(path))),
            }
        }
    }
}

#[cfg(unix)]
fn open(resolved: &Path, path: &str) -> Result<File, PathError> {
    use std::os::unix::fs::OpenOptionsExt;
    // The path is resolved: a link in its place has been created since then. Opening a pipe must not block.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open(resolved).map_err(|error| open_error(path, &error))
}

#[cfg(not(unix))]
fn open(resolved: &Path, path: &str) -> Result<File, PathError> {
    File::open(resolved).map_err(|error| open_error(path, &error))
}

/// Checks the path of the open file in the kernel: finds a directory that was replaced by a link after `resolve`.
#[cfg(target_os = "linux")]
fn confirm(root: &Path, file: &File, path: &str) -> Result<(), PathError> {
    use std::os::fd::AsRawFd;
    match std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        Ok(actual) if !actual.starts_with(root) => Err(PathError::Outside(for_message(path))),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn confirm(_: &Path, _: &File, _: &str) -> Result<(), PathError> {
    Ok(())
}

fn open_error(path: &str, error: &std::io::Error) -> PathError {
    match error.kind() {
        std::io::ErrorKind::NotFound => PathError::NotFound(for_message(path)),
        // A socket, or a device without a driver.
        #[cfg(unix)]
        _ if error.raw_os_error() == Some(libc::ENXIO) => PathError::NotAFile(for_message(path)),
        _ => unreadable(path, error),
    }
}

fn unreadable(path: &str, error: &std::io::Error) -> PathError {
    match error.kind() {
        std::io::ErrorKind::IsADirectory => PathError::NotAFile(for_message(path)),
        kind => PathError::Unreadable { path: for_message(path), reason: kind.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Tree {
        _directory: tempfile::TempDir,
        base: PathBuf,
        root: ImageRoot,
    }

    impl Tree {
        /// Reads with unlimited memory.
        fn read(&self, path: &str) -> Result<Vec<u8>, PathError> {
            self.root.read(path, &mut |_| true)
        }
    }

    /// Creates root/face.jpg, root/sub/face.jpg and, outside, secret.txt.
    fn tree() -> Tree {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("root/sub")).unwrap();
        fs::write(base.join("root/face.jpg"), b"face").unwrap();
        fs::write(base.join("root/sub/face.jpg"), b"sub face").unwrap();
        fs::write(base.join("secret.txt"), b"secret").unwrap();
        let root = ImageRoot::new(Some(&base.join("root")), 100).unwrap();
        Tree { _directory: directory, base, root }
    }

    #[test]
    fn reads_files_below_the_root_by_relative_and_absolute_path() {
        let tree = tree();
        assert_eq!(tree.read("face.jpg").unwrap(), b"face");
        assert_eq!(tree.read("sub/face.jpg").unwrap(), b"sub face");
        assert_eq!(tree.read("./sub//face.jpg").unwrap(), b"sub face");
        let absolute = tree.base.join("root/face.jpg");
        assert_eq!(tree.read(absolute.to_str().unwrap()).unwrap(), b"face");
    }

    #[test]
    fn refuses_paths_out_of_the_root() {
        let tree = tree();
        let outside = tree.base.join("secret.txt");
        for path in [
            "../secret.txt",
            "sub/../../secret.txt",
            "sub/../face.jpg",
            "/etc/passwd",
            outside.to_str().unwrap(),
            "face.jpg\0.png",
            "",
            &"a/".repeat(3000),
        ] {
            assert!(matches!(tree.read(path), Err(PathError::Outside(_))), "{path:?}");
        }
        // Paths are not URLs: percent codes are not decoded.
        for path in ["%2e%2e/secret.txt", "..%2fsecret.txt", "%2fetc%2fpasswd"] {
            assert!(matches!(tree.read(path), Err(PathError::NotFound(_))), "{path:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_inside_and_refused_outside() {
        use std::os::unix::fs::symlink;
        let tree = tree();
        let root = tree.base.join("root");
        symlink("face.jpg", root.join("inside.jpg")).unwrap();
        symlink("../secret.txt", root.join("outside.jpg")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink(root.join("loop"), root.join("loop")).unwrap();
        assert_eq!(tree.read("inside.jpg").unwrap(), b"face");
        for path in ["outside.jpg", "up/secret.txt", "up/does-not-exist"] {
            assert!(matches!(tree.read(path), Err(PathError::Outside(_))), "{path}");
        }
        assert!(matches!(tree.read("loop"), Err(PathError::NotFound(_))));
    }

    #[cfg(unix)]
    #[test]
    fn reads_only_regular_files_of_limited_size() {
        let tree = tree();
        let root = tree.base.join("root");
        fs::write(root.join("large.jpg"), vec![0; 101]).unwrap();
        fs::write(root.join("fits.jpg"), vec![0; 100]).unwrap();
        let pipe = root.join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        assert_eq!(tree.read("fits.jpg").unwrap().len(), 100);
        assert!(matches!(tree.read("large.jpg"), Err(PathError::TooLarge { limit: 100, .. })));
        for path in ["sub", ".", "pipe", "socket"] {
            assert!(matches!(tree.read(path), Err(PathError::NotAFile(_))), "{path}: {:?}", tree.read(path));
        }
        assert_eq!(tree.read("nope.jpg").unwrap_err().to_string(), "File: 'nope.jpg' not found");
    }

    #[test]
    fn files_take_room_before_they_are_read() {
        let tree = tree();
        let mut asked = vec![];
        let mut room = |bytes| {
            asked.push(bytes);
            asked.len() < 3
        };
        assert_eq!(tree.root.read("face.jpg", &mut room).unwrap(), b"face");
        assert_eq!(tree.root.read("sub/face.jpg", &mut room), Err(PathError::NoRoom("sub/face.jpg".into())));
        assert_eq!(asked, [4, 0, 8]);
    }

    #[test]
    fn no_root_means_no_paths() {
        let root = ImageRoot::new(None, 100).unwrap();
        assert!(root.read("face.jpg", &mut |_| true).unwrap_err().to_string().contains("ROOT_IMAGES_DIR is not set"));
        assert!(ImageRoot::new(Some(Path::new("/does/not/exist")), 1).is_err());
    }
}
