//! The C library's allocator, told to give back what it need not keep.
//!
//! glibc maps large blocks one by one, but the first that is freed raises the size from which it does so, up to 32 MB: from then on
//! pictures live among small blocks, in as many arenas as there are threads, and leave holes that only grow. A fixed size and a few
//! arenas keep the resident set of a service flat (`benches/soak.py`).

/// Blocks from here on are mapped, and unmapped when freed: a picture of 600x600.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 1 << 20;
/// Inference and decoding each have about as many threads as there are cores; requests are held by few.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 4;

/// Sets the allocator up. Call it before threads are started; where there is no glibc it does nothing.
pub(super) fn keep_little() {
    // Who tunes it from outside knows why.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::vars_os().all(|(name, _)| name != "GLIBC_TUNABLES" && !name.to_string_lossy().starts_with("MALLOC_")) {
        // SAFETY: sets two numbers of the allocator, which takes any value; no other thread runs yet. What it refuses stays as it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        }
    }
}
