//! Random bytes from the operating system, without files.
//!
//! The crate `getrandom` looks for the function of that name at run time. A static glibc program has no dynamic
//! symbols, so the crate reads /dev/urandom instead, which an empty root directory does not have. Here the function is
//! linked.

use std::io;

/// Random bytes for names that must not repeat.
///
/// Without the system call (Linux before 3.17) they come from std's hasher keys, which are random but no secret: do not
/// use them for keys.
pub fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    if fill(&mut bytes).is_err() {
        bytes = std::array::from_fn(|index| hash(index) as u8);
    }
    bytes
}

/// One number from keys that differ from process to process and from call to call.
fn hash(index: usize) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(index)
}

#[cfg(target_os = "linux")]
fn fill(bytes: &mut [u8; 16]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one slice. The kernel fills up to 256 bytes in one call.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(filled) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn fill(_: &mut [u8; 16]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_differ() {
        assert_ne!(bytes(), bytes());
        assert_ne!(hash(0), hash(0));
        #[cfg(target_os = "linux")]
        fill(&mut [0; 16]).unwrap();
    }
}
