//! The text of the kernels: the files of `cuda/`, unchanged.

use metro_fast_core::shown::shown;

use super::failure::{Failure, Result};

macro_rules! texts {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../../cuda/", $name)))),*]
    };
}

/// The headers that kernels include.
pub(super) const HEADERS: [(&str, &str); 9] = texts! {
    "bitmask.cuh" "block.cuh" "flags.cuh" "philox.cuh" "softmax.cuh" "t4_rans.cuh"
    "t4_tables.cuh" "types.cuh" "writer.cuh"
};

const SOURCES: [(&str, &str); 4] = texts! {
    "apply_lora.cu" "replaced_token_labels.cu" "sample_replacements.cu" "unpack.cu"
};

/// Returns the text of a source, for instance `unpack.cu`.
pub(super) fn source(name: &str) -> Result<&'static str> {
    SOURCES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).ok_or_else(|| {
        let known = SOURCES.map(|(name, _)| name).join(", ");
        Failure(format!(
            "there is no CUDA source {}, expected one of {known}",
            shown(&format!("{name:?}"))
        ))
    })
}

/// The sizes of the parameters of each kernel, without the format at the end of its name; a test
/// compares them with the sources.
const PARAMETERS: [(&str, &[usize]); 6] = [
    ("apply_lora", &[8, 8, 4, 4, 4, 8, 8, 4, 8]),
    ("replaced_token_labels_fill", &[8, 8, 8, 8, 8]),
    ("replaced_token_labels_scatter", &[8, 8, 8, 8, 8, 8, 8, 8]),
    ("sample_replacements", &[8, 8, 4, 4, 8, 8, 8, 4, 8, 4, 8, 4, 4, 8, 8, 8]),
    ("unpack", &[8, 8, 8, 4, 8]),
    ("unpack_flat", &[8, 8, 8, 8, 4, 4, 4, 8]),
];

/// The sizes of the parameters of a kernel, for a driver that does not tell them.
///
/// # Errors
/// If the kernel is unknown.
pub(super) fn known_parameters(kernel: &str) -> Result<Vec<usize>> {
    let formats = ["_f32", "_f16", "_bf16"];
    let name = formats.iter().find_map(|format| kernel.strip_suffix(format)).unwrap_or(kernel);
    match PARAMETERS.iter().find(|(known, _)| *known == name) {
        Some((_, sizes)) => Ok(sizes.to_vec()),
        None => Err(Failure(format!(
            "the parameters of the kernel {kernel:?} are unknown, and this driver does not tell them: \
             it needs CUDA 12.4"
        ))),
    }
}
