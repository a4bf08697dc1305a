//! The numbers of noise tokens and of spans in a row: one rule, in integers.

use crate::{Error, Result};

/// A density or a mean length in billionths, which every machine rounds in the same way.
///
/// f32 and f64 disagree about `round(length * 0.15)` at 166 lengths below 20,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Billionths(u64);

const BILLION: u64 = 1_000_000_000;

impl Billionths {
    /// The nearest number of billionths to a density in `[0, 1)`.
    ///
    /// # Errors
    /// Another value.
    pub fn density(value: f64) -> Result<Self> {
        let parts = (value * BILLION as f64).round_ties_even() as u64;
        if !(0.0..1.0).contains(&value) || parts == BILLION {
            let expected = "a share from 0 up to, but not including, 1";
            return Err(Error::argument("noise_density", value, expected));
        }
        Ok(Self(parts))
    }

    /// The nearest number of billionths to a mean length of 1 or more.
    ///
    /// # Errors
    /// Another value, or one of 2^31 or more.
    pub fn mean_length(value: f64) -> Result<Self> {
        if !(1.0..2_147_483_648.0).contains(&value) {
            return Err(Error::argument("mean_noise_span_length", value, "1 or more tokens"));
        }
        Ok(Self((value * BILLION as f64).round_ties_even() as u64))
    }

    /// `count` times this, rounded half to even.
    pub(super) fn of(self, count: usize) -> usize {
        divide(count as u64 * self.0, BILLION)
    }

    /// Number of noise tokens in a row: [`Self::of`], but at least one, and at least one is kept.
    pub(super) fn noise_of(self, length: usize) -> usize {
        if length < 2 || self.0 == 0 { 0 } else { self.of(length).clamp(1, length - 1) }
    }

    /// `(1 - 2 * this) * count`, rounded half to even, for a density of at most a half.
    pub(super) fn rest_of_twice(self, count: usize) -> usize {
        divide(count as u64 * (BILLION - 2 * self.0), BILLION)
    }

    /// `count` divided by this, rounded half to even.
    pub(super) fn quotient(self, count: usize) -> usize {
        divide(count as u64 * BILLION, self.0)
    }

    /// As a share of 2^32, rounded down. A word is below it with this probability.
    pub(super) fn of_words(self) -> u64 {
        (self.0 << 32) / BILLION
    }

    /// As a float.
    pub(super) fn value(self) -> f64 {
        self.0 as f64 / BILLION as f64
    }
}

/// The quotient, rounded half to even.
fn divide(numerator: u64, denominator: u64) -> usize {
    let (quotient, rest) = (numerator / denominator, numerator % denominator);
    let up = rest > denominator - rest || (rest == denominator - rest && quotient % 2 == 1);
    (quotient + u64::from(up)) as usize
}

/// The public code whose number of spans is used where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// `t5/data/preprocessors.py`: noise / mean.
    T5,
    /// `run_t5_mlm_flax.py` of transformers: min(noise, kept) / mean.
    Hf,
}

/// The numbers of noise tokens and of spans in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanCounts {
    /// Tokens in the row.
    pub length: usize,
    /// Noise tokens.
    pub noise: usize,
    /// Noise spans; 0 if and only if there is no noise.
    pub spans: usize,
}

impl SpanCounts {
    /// The counts of a row of `length` tokens, which must be under 2^31.
    #[inline]
    pub fn of(length: usize, density: Billionths, mean: Billionths, compat: Compat) -> Self {
        let noise = density.noise_of(length);
        if noise == 0 {
            // T5 plans a single token as 2 tokens, and cuts off the one that is noise.
            return Self { length, noise: 0, spans: 0 };
        }
        let fewer = noise.min(length - noise);
        let wanted = match compat {
            Compat::T5 => mean.quotient(noise),
            Compat::Hf => mean.quotient(fewer),
        };
        Self { length, noise, spans: wanted.clamp(1, fewer) }
    }

    /// Number of ids in the corrupted row: kept tokens, one sentinel for each span, EOS.
    pub fn input_length(self) -> usize {
        self.length - self.noise + self.spans + 1
    }

    /// Number of ids in the target: a sentinel and the noise of every span, EOS. A row without noise
    /// has only the first sentinel, as in T5.
    pub fn label_length(self) -> usize {
        self.noise + self.spans.max(1) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbor() {
        let density = Billionths::density(0.15).unwrap();
        // 28.5, 52.5, 58.5, 100.5, 106.5: exact halves, which f32 puts on either side.
        for (length, noise) in [(190, 28), (350, 52), (390, 58), (670, 100), (710, 106)] {
            assert_eq!(density.of(length), noise);
        }
        let mean = Billionths::mean_length(2.0).unwrap();
        assert_eq!([3, 5, 7].map(|noise| mean.quotient(noise)), [2, 2, 4]);
    }

    #[test]
    fn the_largest_row_does_not_overflow() {
        let (density, mean) = (Billionths::density(0.999_999_999), Billionths::mean_length(1.0));
        let counts = SpanCounts::of((1 << 31) - 1, density.unwrap(), mean.unwrap(), Compat::T5);
        assert_eq!((counts.noise, counts.spans), (2_147_483_645, 2));
    }
}
