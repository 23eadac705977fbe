//! Memory and processor time of this process, as the operating system reports them.

/// Use of resources by this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Resident memory, in bytes.
    pub resident: u64,
    /// Processor time since the start, user and system, in seconds.
    pub cpu: f64,
    /// Number of threads.
    pub threads: u64,
    /// Number of open files and sockets.
    pub files: u64,
}

/// The present usage; `None` if the system does not report it.
#[cfg(target_os = "linux")]
pub fn usage() -> Option<Usage> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in parentheses and may contain spaces and parentheses.
    let rest = stat.rsplit_once(')')?.1;
    // `rest` starts with field 3 of proc_pid_stat(5).
    let ticks = |field: usize| rest.split_whitespace().nth(field - 3)?.parse::<u64>().ok();
    Some(Usage {
        resident: field("VmRSS:")? * 1024,
        cpu: (ticks(14)? + ticks(15)?) as f64 / ticks_per_second()?,
        threads: field("Threads:")?,
        files: std::fs::read_dir("/proc/self/fd").map(|files| files.count() as u64).unwrap_or(0),
    })
}

/// Unit of the times in `/proc`; 100 on most systems.
#[cfg(target_os = "linux")]
fn ticks_per_second() -> Option<f64> {
    // SAFETY: reads a constant of the system; -1 means that it is unknown.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    (ticks > 0).then_some(ticks as f64)
}

/// The present usage; `None` if the system does not report it.
#[cfg(not(target_os = "linux"))]
pub fn usage() -> Option<Usage> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn usage_of_this_process_is_plausible() {
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let usage = super::usage().unwrap();
        assert!((1 << 20..1 << 36).contains(&usage.resident), "{usage:?}");
        assert!(usage.threads >= 1 && usage.files >= 3, "{usage:?}");
        assert!(usage.cpu >= 0.01 && usage.cpu < 1e6, "{usage:?}");
    }
}
