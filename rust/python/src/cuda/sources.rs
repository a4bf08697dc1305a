//! The text of the kernels: the files of `cuda/`, unchanged.

use super::failure::{Failure, Result};

macro_rules! texts {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../../cuda/", $name)))),*]
    };
}

/// The headers that kernels include.
pub(super) const HEADERS: [(&str, &str); 9] = texts! {
    "bitmask.cuh" "block.cuh" "flags.cuh" "philox.cuh" "softmax_weights.cuh" "t4_rans.cuh"
    "t4_tables.cuh" "types.cuh" "writer.cuh"
};

const SOURCES: [(&str, &str); 4] = texts! {
    "apply_lora.cu" "replaced_token_labels.cu" "sample_replacements.cu" "unpack.cu"
};

/// Returns the text of a source, for instance `unpack.cu`.
pub(super) fn source(name: &str) -> Result<&'static str> {
    SOURCES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).ok_or_else(|| {
        let known = SOURCES.map(|(name, _)| name).join(", ");
        Failure(format!("there is no CUDA source {name:?}, expected one of {known}"))
    })
}
