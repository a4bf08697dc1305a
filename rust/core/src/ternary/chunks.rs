//! Tensors in chunks, which threads take in contiguous shares.

use super::rule::Part;
use crate::{Error, Result, memory};

/// Number of entries in a chunk. The sums over chunks are added in chunk order, so no result
/// depends on the number of threads or on how many tensors are passed in one call.
pub(super) const CHUNK: usize = 1 << 16;

/// A piece of one tensor.
pub(super) struct Chunk<'a> {
    /// Number of the tensor.
    pub part: usize,
    /// Index of the first entry in the tensor.
    pub start: usize,
    pub values: &'a [f32],
}

/// Cuts all tensors into chunks.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub(super) fn chunks<'a>(parts: &[Part<'a>]) -> Result<Vec<Chunk<'a>>> {
    let of_part = |(part, p): (usize, &Part<'a>)| {
        let chunk = move |(i, values)| Chunk { part, start: i * CHUNK, values };
        p.values.chunks(CHUNK).enumerate().map(chunk)
    };
    memory::collect(parts.iter().enumerate().flat_map(of_part))
}

/// Number of entries in all tensors.
pub(super) fn entries(parts: &[Part<'_>]) -> u64 {
    parts.iter().map(|part| part.values.len() as u64).sum()
}

/// Contiguous shares of the chunks, one for each thread.
pub(super) fn shares<T>(chunks: &[T], num_threads: usize) -> impl Iterator<Item = &[T]> {
    chunks.chunks(share_len(chunks.len(), num_threads))
}

/// Number of chunks in a share.
pub(super) fn share_len(chunks: usize, num_threads: usize) -> usize {
    chunks.div_ceil(num_threads.max(1)).max(1)
}

/// The error for a chunk that holds NaN or infinity.
pub(super) fn not_finite(parts: &[Part<'_>], chunk: &Chunk<'_>) -> Error {
    let at = chunk.values.iter().position(|value| !value.is_finite()).unwrap_or_default();
    let (name, index) = (parts[chunk.part].name, chunk.start + at);
    let value = format!("{} at index {index} of {name}", chunk.values[at]);
    Error::argument("x", value, "finite numbers")
}
