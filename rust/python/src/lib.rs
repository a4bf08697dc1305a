//! `metro_fast._core`: borrows numpy views, checks them, releases the GIL, and calls the core.
//! There are no algorithms here.
//!
//! Each file binds one room of the core and has the same name.

#![deny(unsafe_code)]

mod arrays;
mod batches;
mod corpus;
mod cuda;
mod enter;
mod environment;
mod error;
mod expert;
mod mask;
mod planes;
mod quantizer;
mod replace;
mod simd;
mod span_options;
mod spans;
mod sweep;
mod ternary;
mod threads;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::corpus::{TokenBlocks, TokenFiles};
    #[pymodule_export]
    use super::cuda::{CudaModule, cuda_compile, cuda_devices, nvrtc_version};
    #[pymodule_export]
    use super::error::{CudaError, FormatError, MetroFastError};
    #[pymodule_export]
    use super::expert::{
        check_metadata, crc32c, decode_expert, decode_safetensors, decode_safetensors_file,
        encode_expert, encode_safetensors, read_safetensors_header,
    };
    #[pymodule_export]
    use super::mask::{MaskOptions, mask_tokens};
    #[pymodule_export]
    use super::planes::{count_combinations, dot_products, look_up, planes};
    #[pymodule_export]
    use super::quantizer::{Packer, Quantizer};
    #[pymodule_export]
    use super::replace::{replaced_token_labels, sample_replacements};
    #[pymodule_export]
    use super::simd::simd_level;
    #[pymodule_export]
    use super::span_options::{SpanOptions, span_lengths};
    #[pymodule_export]
    use super::spans::corrupt_spans;
    #[pymodule_export]
    use super::sweep::Sweep;
    #[pymodule_export]
    use super::ternary::{block_info, expand, pack, ternarize, unpack};
    #[pymodule_export]
    use super::threads::default_threads;

    use super::{Bound, PyModule, PyResult};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::threads::remember_process();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
