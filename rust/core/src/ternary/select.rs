//! Exact selection of the k entries of largest magnitude, without sorting.
//!
//! The bits of non-negative floats are ordered like integers, so two histograms give the k-th
//! largest magnitude exactly: one of the upper 16 of the 31 bits, and one of the lower 15 bits in
//! the decisive bin.

use crate::{Result, memory};

/// The bits of the magnitude: all except the sign.
pub(super) const MAGNITUDE: u32 = 0x7fff_ffff;
pub(super) const LOW_BITS: u32 = 15;
const HIGH_BINS: usize = 1 << 16;
pub(super) const LOW_BINS: usize = 1 << LOW_BITS;

/// Which entries are kept: those with magnitudes above `threshold`, and the first `ties` that equal
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// Bits of the smallest magnitude that is kept.
    pub threshold: u32,
    /// How many entries of exactly that magnitude are kept.
    pub ties: u64,
    /// How many entries have exactly that magnitude.
    pub ties_present: u64,
}

/// The counts of upper bits of one thread.
#[derive(Default)]
pub(super) struct Table {
    counts: Vec<[u32; 2]>,
    /// How many values were added to `counts`, whose elements have 32 bits.
    pending: u64,
    totals: Vec<u64>,
}

impl Table {
    /// Returns the counters for the next `len` values: one for each bin and lane.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if there is not enough memory.
    pub fn counts(&mut self, len: usize) -> Result<&mut [[u32; 2]; HIGH_BINS]> {
        if self.pending + len as u64 > u64::from(u32::MAX) {
            if self.totals.is_empty() {
                self.totals = memory::zeros(HIGH_BINS)?;
            }
            let mut totals = std::mem::take(&mut self.totals);
            self.add_to(&mut totals);
            (self.totals, self.pending) = (totals, 0);
            self.counts.fill([0; 2]);
        }
        if self.counts.is_empty() {
            self.counts = memory::zeros(HIGH_BINS)?;
        }
        self.pending += len as u64;
        Ok(self.counts.as_mut_slice().try_into().expect("the vector has this length"))
    }

    fn add_to(&self, totals: &mut [u64]) {
        for (total, [even, odd]) in totals.iter_mut().zip(&self.counts) {
            *total += u64::from(*even) + u64::from(*odd);
        }
    }

    /// Adds the counts of several tables.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if there is not enough memory.
    pub fn sum(tables: &[Self]) -> Result<Vec<u64>> {
        let mut totals = memory::zeros(HIGH_BINS)?;
        for table in tables {
            table.add_to(&mut totals);
            for (total, count) in totals.iter_mut().zip(&table.totals) {
                *total += count;
            }
        }
        Ok(totals)
    }
}

/// Returns the bin that holds the k-th largest entry, and the number of entries in higher bins.
pub(super) fn find(counts: &[u64], k: u64) -> (u32, u64) {
    let mut above = 0;
    for (bin, count) in counts.iter().enumerate().rev() {
        if above + count >= k {
            return (bin as u32, above);
        }
        above += count;
    }
    (0, above)
}

/// The upper bits of the k-th largest magnitude, and its rank among the entries with those bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decisive {
    pub high: u32,
    rank: u64,
}

impl Decisive {
    /// Finds the bin from the counts of the upper bits; `k` is from 1 to their sum.
    pub fn of(upper: &[u64], k: u64) -> Self {
        let (high, above) = find(upper, k);
        Self { high, rank: k - above }
    }

    /// Finds the threshold from the counts of the lower bits in the decisive bin.
    pub fn select(self, lower: &[u64]) -> Selection {
        let (low, above) = find(lower, self.rank);
        Selection {
            threshold: self.high << LOW_BITS | low,
            ties: self.rank.saturating_sub(above),
            ties_present: lower[low as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::passes::{Refine, Scan};
    use super::*;
    use crate::simd::Level;

    proptest! {
        #[test]
        fn equals_sorting(
            values in prop::collection::vec(
                prop_oneof![any::<f32>().prop_filter("finite", |x| x.is_finite()), Just(0.5), Just(-0.5), Just(0.0)],
                1..2000,
            ),
            at: prop::sample::Index,
        ) {
            let k = at.index(values.len()) + 1;
            let mut bits: Vec<u32> = values.iter().map(|v| v.to_bits() & MAGNITUDE).collect();
            bits.sort_unstable_by(|a, b| b.cmp(a));
            let threshold = bits[k - 1];
            for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
                let (mut upper, mut lower) = (Table::default(), vec![0; LOW_BINS]);
                level.run(Scan { values: &values, upper: &mut upper }).unwrap();
                let decisive = Decisive::of(&Table::sum(&[upper]).unwrap(), k as u64);
                let high = decisive.high;
                level.run(Refine { values: &values, mean: 0.0, high, lower: &mut lower });
                let found = decisive.select(&lower);
                prop_assert_eq!(found.threshold, threshold);
                prop_assert_eq!(found.ties, bits[..k].iter().filter(|b| **b == threshold).count() as u64);
                prop_assert_eq!(found.ties_present, bits.iter().filter(|b| **b == threshold).count() as u64);
            }
        }
    }

    #[test]
    fn counts_are_moved_before_they_run_over() {
        let mut table = Table::default();
        for len in [u32::MAX as usize, 3, u32::MAX as usize - 2] {
            table.counts(len).unwrap()[7][1] += 5;
        }
        assert_eq!(Table::sum(&[table]).unwrap()[7], 15);
    }
}
