//! Resource usage of this process, from the operating system.

/// Memory and processor time of this process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Memory that is in RAM, in bytes.
    pub resident: u64,
    /// Processor time since the start, in seconds, user and system together.
    pub cpu: f64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub files: u64,
}

/// The present usage; `None` where the system does not report it.
#[cfg(target_os = "linux")]
pub fn usage() -> Option<Usage> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let schedule = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in parentheses and can have spaces and parentheses.
    let rest = schedule.rsplit_once(')')?.1;
    let ticks = |index: usize| rest.split_whitespace().nth(index)?.parse::<u64>().ok();
    Some(Usage {
        resident: field("VmRSS:")? * 1024,
        // Fields 14 and 15 of proc(5), in ticks of 1/100 s, the value of USER_HZ on all architectures.
        cpu: (ticks(11)? + ticks(12)?) as f64 / 100.0,
        threads: field("Threads:")?,
        files: std::fs::read_dir("/proc/self/fd").map(|files| files.count() as u64).unwrap_or(0),
    })
}

/// The present usage; `None` where the system does not report it.
#[cfg(not(target_os = "linux"))]
pub fn usage() -> Option<Usage> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_knows_itself() {
        let usage = super::usage().unwrap();
        assert!((1 << 20..1 << 36).contains(&usage.resident), "{usage:?}");
        assert!(usage.threads >= 1 && usage.files >= 3 && usage.cpu >= 0.0, "{usage:?}");
    }
}
