//! How many threads a call uses when the caller does not say.
//!
//! The core starts threads for one call and joins them before it returns, so there is no pool that a
//! forked child could inherit and hang on. What a fork still must not do is multiply: a DataLoader
//! with N workers wants N threads, not N times the cores.

use std::sync::OnceLock;

use pyo3::prelude::*;

static IMPORTER: OnceLock<u32> = OnceLock::new();

/// Remembers which process imported the module.
pub(crate) fn remember_process() {
    let _ = IMPORTER.set(std::process::id());
}

/// Threads for a call that names no count: the machine's cores; one in a worker or a forked child.
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
