//! The baseline: SSE2 has no shift by lane, but a power of two is a double whose exponent is one
//! subtraction away, and 49 bits of a block's sum fit in it.

use super::super::sets::Scalar;
use super::{BLOCK, Weights};
use crate::softmax::{POINT, TOP, distance, weight};

/// The upper half of the double 1.0, and the place of its exponent.
const ONE: u32 = 0x3FF0_0000;
const EXPONENT: u32 = 20;

impl Weights for Scalar {
    #[inline(always)]
    fn envelopes(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64 {
        let mut sums = [0.0; 8];
        for eight in logits.as_chunks::<8>().0 {
            for (sum, logit) in sums.iter_mut().zip(eight) {
                let distance = distance(max, *logit, scale);
                let upper = ONE - (distance >> POINT << EXPONENT);
                let kept = if distance < (TOP + 1) << POINT { upper } else { 0 };
                *sum += f64::from_bits(u64::from(kept) << 32);
            }
        }
        (sums.iter().sum::<f64>() * (1u64 << TOP) as f64) as u64
    }

    /// Distances in one loop, which the compiler vectorizes, and weights in another.
    #[inline(always)]
    fn weights(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64 {
        let mut distances = [0; BLOCK];
        for (to, logit) in distances.iter_mut().zip(logits) {
            *to = distance(max, *logit, scale);
        }
        distances.iter().map(|distance| weight(*distance)).sum()
    }
}
