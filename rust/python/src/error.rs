//! Converts errors of the core to Python exceptions.

use std::io::ErrorKind;

use metro_fast_core::Error;
use metro_fast_core::shown::shown_within;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;

pyo3::create_exception!(
    metro_fast._core,
    MetroFastError,
    PyValueError,
    "An argument is not accepted: the message gives the value and what was expected."
);
pyo3::create_exception!(
    metro_fast._core,
    FormatError,
    MetroFastError,
    "A file or packed stream is damaged, truncated, or of a different kind than it claims."
);

pyo3::create_exception!(
    metro_fast._core,
    CudaError,
    MetroFastError,
    "CUDA is missing, or a call failed: the message says what was looked for, or which call failed."
);

/// Most characters of a message: a reason of a library may quote a file of many megabytes.
const MOST: usize = 2000;

/// Converts a core error to the Python exception of the same kind.
pub(crate) fn to_python(error: Error) -> PyErr {
    let text = |error: &Error| shown_within(&error.to_string(), MOST);
    match error {
        Error::Format(_) => FormatError::new_err(text(&error)),
        Error::Memory { .. } => PyMemoryError::new_err(error.to_string()),
        Error::Io { ref source, .. } if source.kind() == ErrorKind::OutOfMemory => {
            PyMemoryError::new_err(error.to_string())
        }
        Error::Io { context, source } => match source.raw_os_error() {
            // OSError(errno, message) becomes FileNotFoundError, PermissionError and so on.
            Some(code) => {
                let reason = source.to_string();
                let reason = reason.split(" (os error ").next().unwrap_or_default();
                PyOSError::new_err((code, format!("{context}: {reason}")))
            }
            None => PyOSError::new_err(format!("{context}: {source}")),
        },
        other => MetroFastError::new_err(text(&other)),
    }
}
