//! The instruction set of a call: the machine's best, or the one that `METRO_FAST_SIMD` names.

use metro_fast_core::simd::Level;
use pyo3::prelude::*;

use crate::environment::text;
use crate::error::to_python;

/// Reads the variable in every call, so that a test can change it; this takes 60 ns.
pub(crate) fn level() -> PyResult<Level> {
    match text("METRO_FAST_SIMD")? {
        Some(name) => Level::named(&name).map_err(to_python),
        None => Ok(Level::best()),
    }
}

/// Returns the name of the instruction set that calls use: "scalar", "avx2" or "avx512".
#[pyfunction]
pub(crate) fn simd_level() -> PyResult<&'static str> {
    Ok(level()?.name())
}
