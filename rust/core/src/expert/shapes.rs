//! Shapes of tensors in files.

use crate::shown::shown;
use crate::{Error, Result};

/// The most elements of a tensor, where a size of 0 counts as 1.
const MAX_ELEMENTS: u64 = 1 << 40;

/// The product of the sizes, in which 0 counts as 1.
pub(super) fn product(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |product, size| product.checked_mul((*size).max(1)))
}

/// Refuses sizes that no tensor in memory can have. The safetensors crate takes `[0, 2^63]`, whose
/// product is 0.
pub(super) fn check_shape(name: &str, shape: &[usize]) -> Result<()> {
    let sizes: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
    match product(&sizes) {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(()),
        _ => Err(Error::Format(format!(
            "{} has a shape of more than 2^40 elements (a size of 0 counts as 1): \
             the file is damaged",
            shown(&format!("{name:?}"))
        ))),
    }
}
