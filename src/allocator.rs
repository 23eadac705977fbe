//! The C library's allocator, told to give back what it need not keep.
//!
//! glibc maps large blocks one by one, but the first that is freed raises the size from which it does so, up to 32 MB:
//! from then on pictures live among small blocks, in as many arenas as there are threads, and leave holes that only
//! grow. A fixed size and a few arenas keep the resident set of a service flat (`benches/soak.py`). What a burst of
//! requests leaves free between blocks that are in use goes back when it is over.

/// Blocks from here on are mapped, and unmapped when freed: a picture of 600x600.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 1 << 20;
/// Inference and decoding each have about as many threads as there are cores; requests are held by few.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 4;

/// Sets the allocator up. Call it before threads are started; where there is no glibc it does nothing.
pub fn keep_little() {
    // Who tunes it from outside knows why.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::vars_os().all(|(name, _)| name != "GLIBC_TUNABLES" && !name.to_string_lossy().starts_with("MALLOC_")) {
        // SAFETY: sets two numbers of the allocator, which takes any value; no other thread runs yet. What it refuses
        // stays as it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        }
    }
}

/// Gives the pages back that are free between blocks in use. Takes some milliseconds, during which other threads may
/// have to wait for a block; where there is no glibc it does nothing.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes the allocator's own locks, and touches only memory that nobody has.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn what_is_free_between_blocks_in_use_is_given_back() {
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        // Other tests of this process come and go meanwhile.
        let gave_back = (0..20).any(|_| {
            let mut blocks: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 32 << 10]).collect();
            let mut number = 0;
            blocks.retain(|_| {
                number += 1;
                number % 8 == 0
            });
            let before = resident();
            super::give_back();
            resident() + (64 << 20) < before
        });
        assert!(gave_back);
    }
}
