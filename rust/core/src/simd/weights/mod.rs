//! Sums of the envelopes and of the weights of a block of logits: see [`crate::softmax`].

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

/// Number of logits of a block.
pub(crate) const BLOCK: usize = 256;

/// The operations on weights that each level implements in its own way.
pub(crate) trait Weights {
    /// Returns the sum of [`crate::softmax::envelope`] over a block, for the greatest logit and the
    /// factor of [`crate::softmax::scale`]. The logits are at most `max`, which is finite.
    fn envelopes(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64;

    /// Returns the sum of [`crate::softmax::weight`] in the same way.
    fn weights(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64;
}
