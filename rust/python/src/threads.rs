//! The default number of threads for a call.
//!
//! The core starts threads for one call and joins them before it returns, so there is no pool that
//! a forked child could inherit and hang on. Forked children must still not multiply the number of
//! threads: a DataLoader with N workers should use N threads, not N times the number of cores.

use std::sync::OnceLock;

use pyo3::prelude::*;

static IMPORTER: OnceLock<u32> = OnceLock::new();

/// Remembers the process that imported the module.
pub(crate) fn remember_process() {
    let _ = IMPORTER.set(std::process::id());
}

/// Returns the number of threads for calls that do not specify it: the number of cores, or 1 in a
/// worker or a forked child.
///
/// `METRO_FAST_NUM_THREADS` overrides both.
#[pyfunction]
pub(crate) fn default_threads(in_worker: bool) -> usize {
    if let Some(n) = std::env::var("METRO_FAST_NUM_THREADS").ok().and_then(|v| v.parse().ok())
        && n > 0
    {
        return n;
    }
    if in_worker || IMPORTER.get().is_some_and(|pid| *pid != std::process::id()) {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, usize::from)
}
