//! The only way into the core: releases the GIL and converts the error.

use metro_fast_core::Result;
use pyo3::marker::Ungil;
use pyo3::prelude::*;

use crate::error::to_python;

/// Runs `work` without the GIL.
pub(crate) fn enter<T: Ungil + Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T> + Ungil + Send,
) -> PyResult<T> {
    py.detach(work).map_err(to_python)
}
