//! The distribution of the lengths of noise spans, as a table.

use crate::{Error, Result, memory};

/// Probabilities of the lengths 1, 2, 3, ..., or of 0, 1, 2, ...
#[derive(Clone, Debug)]
pub struct SpanLengths {
    /// A word below `ends[i]`, but not below `ends[i - 1]`, encodes a span of `first + i` tokens.
    ends: Vec<u64>,
    first: usize,
}

impl SpanLengths {
    /// Takes probabilities of the lengths `first`, `first + 1`, ...; they are divided by their sum.
    ///
    /// # Errors
    /// The table is empty, or a probability is negative or infinite, or all are 0.
    pub fn new(probabilities: &[f64], first: usize) -> Result<Self> {
        let sum: f64 = probabilities.iter().sum();
        let fine = probabilities.iter().all(|p| *p >= 0.0) && sum > 0.0 && sum.is_finite();
        if !fine || probabilities.len() > 1 << 20 {
            return Err(Error::argument(
                "span_lengths",
                format!("{} probabilities that sum to {sum}", probabilities.len()),
                "1 to 2^20 probabilities, none negative, not all 0",
            ));
        }
        let mut before = 0.0;
        let mut ends = memory::collect(probabilities.iter().map(|probability| {
            before += probability / sum;
            (before * 4_294_967_296.0) as u64
        }))?;
        // Rounding must not leave words without a length, or give them a length of probability 0.
        let last = probabilities.iter().rposition(|p| *p > 0.0).unwrap_or(0);
        ends.truncate(last + 1);
        ends[last] = 1 << 32;
        Ok(Self { ends, first })
    }

    /// The length that a word encodes.
    #[inline]
    pub(super) fn of(&self, word: u32) -> usize {
        self.first + self.ends.partition_point(|end| *end <= u64::from(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shared_out_by_the_table() {
        let lengths = SpanLengths::new(&[0.0, 1.0, 3.0, 0.0], 1).unwrap();
        assert_eq!([0, (1 << 30) - 1].map(|word| lengths.of(word)), [2, 2]);
        assert_eq!([1 << 30, u32::MAX].map(|word| lengths.of(word)), [3, 3]);
        for bad in [&[][..], &[0.0], &[-1.0, 2.0], &[f64::NAN], &[f64::INFINITY]] {
            assert!(SpanLengths::new(bad, 1).is_err());
        }
    }
}
