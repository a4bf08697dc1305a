//! Exact selection of the k entries of largest magnitude, without sorting.
//!
//! The bits of non-negative floats order like integers, so two histograms (upper 16 of the 31 bits,
//! then the lower 15 of those in the decisive bin) give the k-th largest magnitude exactly.

use crate::{Result, threads};

/// Bits of the magnitude: all but the sign.
pub(super) const MAGNITUDE: u32 = 0x7fff_ffff;
const LOW_BITS: u32 = 15;
const HIGH_BINS: usize = 1 << 16;
const LOW_BINS: usize = 1 << LOW_BITS;

/// Entries of a chunk: sums over chunks are added in chunk order, so no result depends on threads.
pub(super) const CHUNK: usize = 1 << 16;

/// Which entries are kept: magnitudes above `threshold`, and the first `ties` that equal it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// Bits of the smallest magnitude that is kept.
    pub threshold: u32,
    /// How many entries of just that magnitude are kept.
    pub ties: u64,
    /// How many there are.
    pub ties_present: u64,
}

/// Counts of the upper bits, kept by each thread apart and added up.
pub(super) struct Histogram(Vec<u64>);

impl Histogram {
    pub fn upper() -> Self {
        Self(vec![0; HIGH_BINS])
    }

    pub fn count_upper(&mut self, values: &[f32]) {
        for value in values {
            self.0[((value.to_bits() & MAGNITUDE) >> LOW_BITS) as usize] += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (total, count) in self.0.iter_mut().zip(&other.0) {
            *total += count;
        }
    }

    /// The bin that holds the k-th entry from above, and how many lie above that bin.
    fn find(&self, k: u64) -> (u32, u64) {
        let mut above = 0;
        for (bin, count) in self.0.iter().enumerate().rev() {
            if above + count >= k {
                return (bin as u32, above);
            }
            above += count;
        }
        (0, above)
    }
}

/// Selects `k` entries (1 <= k <= their number) given the histogram of the upper bits.
///
/// # Errors
/// [`crate::Error::Io`] if a thread cannot be started.
pub(super) fn select(
    chunks: &[&[f32]],
    upper: &Histogram,
    k: u64,
    num_threads: usize,
) -> Result<Selection> {
    let (high, above) = upper.find(k);
    let mut shares: Vec<(&[&[f32]], Histogram)> =
        shares(chunks, num_threads).map(|share| (share, Histogram(vec![0; LOW_BINS]))).collect();
    threads::for_each(num_threads, shares.iter_mut().collect(), |(share, histogram)| {
        for value in share.iter().copied().flatten() {
            let bits = value.to_bits() & MAGNITUDE;
            if bits >> LOW_BITS == high {
                histogram.0[(bits as usize) & (LOW_BINS - 1)] += 1;
            }
        }
        Ok(())
    })?;
    let mut lower = Histogram(vec![0; LOW_BINS]);
    for (_, histogram) in &shares {
        lower.add(histogram);
    }
    let (low, above_low) = lower.find(k - above);
    Ok(Selection {
        threshold: high << LOW_BITS | low,
        ties: k - above - above_low,
        ties_present: lower.0[low as usize],
    })
}

/// Contiguous shares of the chunks, one a thread.
pub(super) fn shares<T>(chunks: &[T], num_threads: usize) -> impl Iterator<Item = &[T]> {
    chunks.chunks(chunks.len().div_ceil(num_threads.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_sorting(
            values in prop::collection::vec(
                prop_oneof![any::<f32>().prop_filter("finite", |x| x.is_finite()), Just(0.5), Just(-0.5), Just(0.0)],
                1..2000,
            ),
            at: prop::sample::Index,
            threads in 1..4usize,
        ) {
            let k = at.index(values.len()) + 1;
            let chunks: Vec<&[f32]> = values.chunks(100).collect();
            let mut upper = Histogram::upper();
            upper.count_upper(&values);
            let found = select(&chunks, &upper, k as u64, threads).unwrap();
            let mut bits: Vec<u32> = values.iter().map(|v| v.to_bits() & MAGNITUDE).collect();
            bits.sort_unstable_by(|a, b| b.cmp(a));
            let threshold = bits[k - 1];
            prop_assert_eq!(found.threshold, threshold);
            prop_assert_eq!(found.ties, bits[..k].iter().filter(|b| **b == threshold).count() as u64);
            prop_assert_eq!(found.ties_present, bits.iter().filter(|b| **b == threshold).count() as u64);
        }
    }
}
