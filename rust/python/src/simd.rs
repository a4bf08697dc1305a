//! The instruction set of a call: the machine's best, or what `METRO_FAST_SIMD` says.

use metro_fast_core::simd::Level;
use pyo3::prelude::*;

use crate::error::to_python;

/// Reads the variable at every call, which takes 60 ns, so that a test can change it.
pub(crate) fn level() -> PyResult<Level> {
    match std::env::var("METRO_FAST_SIMD") {
        Ok(name) if !name.is_empty() => Level::named(&name).map_err(to_python),
        _ => Ok(Level::best()),
    }
}

/// Name of the instruction set that calls use: "scalar", "avx2" or "avx512".
#[pyfunction]
pub(crate) fn simd_level() -> PyResult<&'static str> {
    Ok(level()?.name())
}
