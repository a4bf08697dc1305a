//! Sums of weights relative to a maximum, which grows.

use crate::softmax::{TOP, distance, weight};

/// The greatest of the logits seen so far, and the sum of all weights relative to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mass {
    /// -Inf before the first logit above it.
    pub max: f32,
    /// In units of 2^-40 of the weight of `max`.
    pub sum: u64,
}

impl Mass {
    /// No logits.
    pub const NONE: Self = Self { max: f32::NEG_INFINITY, sum: 0 };

    /// Returns both masses relative to the greater maximum.
    #[inline]
    pub(super) fn aligned(self, other: Self, scale: f32) -> (f32, u64, u64) {
        let max = if other.max > self.max { other.max } else { self.max };
        let shrunk = |mass: Self| {
            if mass.sum == 0 {
                return 0;
            }
            let factor = weight(distance(max, mass.max, scale));
            ((u128::from(mass.sum) * u128::from(factor)) >> TOP) as u64
        };
        (max, shrunk(self), shrunk(other))
    }

    /// Returns the logarithm of the sum of `exp(logit)`, if the scale was that of temperature 1.
    #[must_use]
    pub fn logsumexp(self) -> f64 {
        f64::from(self.max) + (self.sum as f64 / (1u64 << TOP) as f64).ln()
    }
}
