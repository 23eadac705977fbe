//! Environment variables that configure the engine for the whole process. The crate documentation lists them.

/// Name of the variable that selects the [`Backend`](crate::Backend).
const ENGINE: &str = "IFR_ENGINE";
/// Name of the variable that selects the instruction set.
const ISA: &str = "IFR_ISA";
/// Names of the variables that set the number of threads, in order of precedence.
const THREADS: [&str; 2] = ["IFR_THREADS", "RAYON_NUM_THREADS"];

/// Whether tract runs all networks instead of the engine.
pub(crate) fn prefers_tract() -> bool {
    variable(ENGINE).is_some_and(|value| value == "tract")
}

/// Name of the instruction set to use; `None` for the best one.
pub(crate) fn isa() -> Option<String> {
    variable(ISA)
}

/// Number of threads for one inference; `None` if it is not set or not a positive number.
pub(crate) fn threads() -> Option<usize> {
    THREADS.iter().find_map(|name| variable(name)?.parse().ok()).filter(|&count| count > 0)
}

/// The trimmed value of a variable; `None` if it is blank or not set.
fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}
