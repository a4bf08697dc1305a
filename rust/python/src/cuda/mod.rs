//! CUDA without a link to it: the driver and NVRTC are opened when they are first asked for.
//!
//! `sources` holds the kernels' text, `nvrtc` compiles it, `cache` keeps what was compiled, `image`
//! finds the machine code for a device, `driver` loads and launches it. All `unsafe` of this crate is
//! in this folder.

mod cache;
#[allow(unsafe_code)]
mod driver;
mod image;
#[allow(unsafe_code)]
mod library;
mod module;
#[allow(unsafe_code)]
mod nvrtc;
mod sources;

use pyo3::prelude::*;

pub(crate) use module::{CudaModule, cuda_compile, cuda_devices, nvrtc_version};

use crate::error::CudaError;

/// What went wrong, as it is told to people.
#[derive(Debug)]
pub(crate) struct Failure(String);

type Result<T> = std::result::Result<T, Failure>;

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        CudaError::new_err(failure.0)
    }
}
