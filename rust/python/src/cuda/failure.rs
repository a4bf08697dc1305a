//! The error of the CUDA calls.

use pyo3::prelude::*;

use crate::error::CudaError;

/// The message of an error, as users read it.
#[derive(Debug)]
pub(crate) struct Failure(pub String);

/// A result whose error is a [`Failure`].
pub(super) type Result<T> = std::result::Result<T, Failure>;

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        CudaError::new_err(failure.0)
    }
}
