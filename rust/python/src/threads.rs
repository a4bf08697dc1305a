//! The default number of threads for a call.
//!
//! The core starts threads for one call and joins them before it returns, so there is no pool that
//! a forked child could inherit and hang on. Forked children must still not multiply the number of
//! threads: a DataLoader with N workers should use N threads, not N times the number of cores.

use std::sync::OnceLock;

use pyo3::prelude::*;

use crate::environment::count;

/// The most threads that a call starts, whatever it asks for; `resolve_threads` has the same limit.
const MOST: usize = 1024;

static IMPORTER: OnceLock<u32> = OnceLock::new();

/// Remembers the process that imported the module.
pub(crate) fn remember_process() {
    let _ = IMPORTER.set(std::process::id());
}

/// Returns the number of threads for calls that do not specify it: the number of cores, or 1 in a
/// worker or a forked child.
///
/// `METRO_FAST_NUM_THREADS` overrides both.
///
/// # Errors
/// `MetroFastError` if that variable is not a whole number from 1 to [`MOST`].
#[pyfunction]
pub(crate) fn default_threads(in_worker: bool) -> PyResult<usize> {
    if let Some(number) = count("METRO_FAST_NUM_THREADS", MOST)? {
        return Ok(number);
    }
    if in_worker || IMPORTER.get().is_some_and(|pid| *pid != std::process::id()) {
        return Ok(1);
    }
    Ok(std::thread::available_parallelism().map_or(1, usize::from))
}
