//! The one map from core errors to Python exceptions.

use metro_fast_core::Error;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

pyo3::create_exception!(
    metro_fast._core,
    MetroFastError,
    PyValueError,
    "An argument that metro_fast cannot work with: the message names the value and what was expected."
);
pyo3::create_exception!(
    metro_fast._core,
    FormatError,
    MetroFastError,
    "A file or packed stream that is damaged, truncated, or not what it says it is."
);

pyo3::create_exception!(
    metro_fast._core,
    CudaError,
    MetroFastError,
    "CUDA is missing, or refused a call: the message says what was looked for or which call."
);

/// Maps a core error to the Python exception of its kind.
pub(crate) fn to_python(error: Error) -> PyErr {
    match error {
        Error::Format(_) => FormatError::new_err(error.to_string()),
        Error::Io { context, source } => match source.raw_os_error() {
            // OSError(errno, message) makes itself FileNotFoundError, PermissionError, ...
            Some(code) => PyOSError::new_err((code, context)),
            None => PyOSError::new_err(format!("{context}: {source}")),
        },
        other => MetroFastError::new_err(other.to_string()),
    }
}
