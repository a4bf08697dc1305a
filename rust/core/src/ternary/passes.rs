//! The three passes over a chunk of floats, compiled for every instruction set.
//!
//! Sums use sixteen interleaved accumulators, which are added in a fixed order, so every level
//! gives the same bits.

use super::select::{LOW_BITS, MAGNITUDE, Table};
use crate::Result;
use crate::simd::{Job, Lanes};

const LANES: usize = 16;
/// Number of entries that stay in the first-level cache while several loops visit them.
const BLOCK: usize = 2048;
const ROW: usize = 32;
const INFINITY: u32 = 0x7f80_0000;

/// First pass: counts the upper bits, and returns the sum and whether all entries are finite.
pub(super) struct Scan<'a> {
    pub values: &'a [f32],
    pub upper: &'a mut Table,
}

impl Job for Scan<'_> {
    type Output = Result<(f64, bool)>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Self::Output {
        let (mut sums, mut largest) = ([0.0; LANES], 0);
        let counts = self.upper.counts(self.values.len())?;
        for block in self.values.chunks(BLOCK) {
            for value in block {
                largest = largest.max((value.to_bits() & MAGNITUDE).cast_signed());
            }
            let (rows, rest) = block.as_chunks::<LANES>();
            for row in rows {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*value);
                }
            }
            for (sum, value) in sums.iter_mut().zip(rest) {
                *sum += f64::from(*value);
            }
            // Neighbors are counted in different places, so that equal entries do not wait for each
            // other.
            let (pairs, rest) = block.as_chunks::<2>();
            for pair in pairs {
                for (lane, value) in pair.iter().enumerate() {
                    counts[((value.to_bits() & MAGNITUDE) >> LOW_BITS) as usize][lane] += 1;
                }
            }
            for value in rest {
                counts[((value.to_bits() & MAGNITUDE) >> LOW_BITS) as usize][0] += 1;
            }
        }
        Ok((total(&sums), largest < INFINITY.cast_signed()))
    }
}

/// Second pass: counts the lower bits of the entries in the decisive bin, and returns the sum of
/// squared deviations.
pub(super) struct Refine<'a> {
    pub values: &'a [f32],
    pub mean: f64,
    pub high: u32,
    pub lower: &'a mut [u64],
}

impl Job for Refine<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let Self { values, mean, high, lower } = self;
        let mut sums = [0.0; LANES];
        for block in values.chunks(BLOCK) {
            let (rows, rest) = block.as_chunks::<LANES>();
            for row in rows {
                for (sum, value) in sums.iter_mut().zip(row) {
                    let deviation = f64::from(*value) - mean;
                    *sum += deviation * deviation;
                }
            }
            for (sum, value) in sums.iter_mut().zip(rest) {
                let deviation = f64::from(*value) - mean;
                *sum += deviation * deviation;
            }
            for row in block.chunks(ROW) {
                let mut found = 0;
                for value in row {
                    found |= u32::from((value.to_bits() & MAGNITUDE) >> LOW_BITS == high);
                }
                if found != 0 {
                    count_lower(row, high, lower);
                }
            }
        }
        total(&sums)
    }
}

#[inline(always)]
fn count_lower(row: &[f32], high: u32, lower: &mut [u64]) {
    for value in row {
        let bits = value.to_bits() & MAGNITUDE;
        if bits >> LOW_BITS == high {
            lower[(bits & ((1 << LOW_BITS) - 1)) as usize] += 1;
        }
    }
}

/// Counts the entries that have exactly this magnitude.
pub(super) struct CountTies<'a> {
    pub values: &'a [f32],
    pub threshold: u32,
}

impl Job for CountTies<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> u64 {
        self.values.chunks(BLOCK).map(|block| u64::from(ties(block, self.threshold))).sum()
    }
}

#[inline(always)]
fn ties(block: &[f32], threshold: u32) -> u32 {
    let mut count = 0;
    for value in block {
        count += u32::from(value.to_bits() & MAGNITUDE == threshold);
    }
    count
}

/// Inner products of a tensor w and its trits t: cos(w, t) = dot / sqrt(square * nonzeros).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Sum of w t, which is the sum of the kept magnitudes.
    pub dot: f64,
    /// Sum of w^2.
    pub square: f64,
    /// Sum of t^2.
    pub nonzeros: u64,
}

impl std::ops::AddAssign for Agreement {
    fn add_assign(&mut self, other: Self) {
        self.dot += other.dot;
        self.square += other.square;
        self.nonzeros += other.nonzeros;
    }
}

/// Last pass: writes the trits, and keeps only the first `ties` of the entries whose magnitude is
/// exactly the threshold. Returns how well the trits agree with the entries, and how many ties were
/// kept.
pub(super) struct Emit<'a> {
    pub values: &'a [f32],
    pub out: &'a mut [i8],
    /// At least 1, because entries that are zero become zero trits even if they are selected.
    pub threshold: u32,
    pub ties: u64,
}

impl Job for Emit<'_> {
    type Output = (Agreement, u64);

    #[inline(always)]
    fn run<L: Lanes>(self) -> Self::Output {
        let Self { values, out, threshold, ties: allowed } = self;
        let (mut dots, mut squares) = ([0.0; LANES], [0.0; LANES]);
        let (mut nonzeros, mut left) = (0, allowed);
        for (block, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let here = u64::from(ties(block, threshold));
            if left == 0 || left >= here {
                let below = if left == 0 { threshold } else { threshold - 1 }.cast_signed();
                for (trit, value) in out.iter_mut().zip(block) {
                    let bits = value.to_bits();
                    let kept = i8::from((bits & MAGNITUDE).cast_signed() > below);
                    *trit = kept - 2 * (kept & (bits >> 31) as i8);
                }
                left -= here.min(left);
            } else {
                left = cut_ties(block, out, threshold, left);
            }
            nonzeros += count_nonzeros(out);
            let (rows, rest) = block.as_chunks::<LANES>();
            let (trit_rows, trit_rest) = out.as_chunks::<LANES>();
            for (row, trits) in rows.iter().zip(trit_rows) {
                add(row, trits, &mut dots, &mut squares);
            }
            add(rest, trit_rest, &mut dots, &mut squares);
        }
        let found = Agreement { dot: total(&dots), square: total(&squares), nonzeros };
        (found, allowed - left)
    }
}

/// Writes the block in which the ties run out; returns how many are left, which is 0.
#[inline(always)]
fn cut_ties(block: &[f32], out: &mut [i8], threshold: u32, mut left: u64) -> u64 {
    for (trit, value) in out.iter_mut().zip(block) {
        let bits = value.to_bits();
        let tie = bits & MAGNITUDE == threshold;
        let kept = bits & MAGNITUDE > threshold || (tie && left > 0);
        left -= u64::from(tie && kept);
        *trit = i8::from(kept) * (1 - 2 * (bits >> 31) as i8);
    }
    left
}

#[inline(always)]
fn add(row: &[f32], trits: &[i8], dots: &mut [f64; LANES], squares: &mut [f64; LANES]) {
    for (((w, t), dot), square) in row.iter().zip(trits).zip(dots).zip(squares) {
        // Exact, because t is -1, 0 or 1.
        *dot += f64::from(*w * f32::from(*t));
        *square += f64::from(*w) * f64::from(*w);
    }
}

/// Counts the nonzero trits of a block in bytes, which cannot overflow in so few rows.
#[inline(always)]
fn count_nonzeros(trits: &[i8]) -> u64 {
    const { assert!(BLOCK / 64 <= u8::MAX as usize) };
    let (rows, rest) = trits.as_chunks::<64>();
    let mut counts = [0u8; 64];
    for row in rows {
        for (count, trit) in counts.iter_mut().zip(row) {
            *count += u8::from(*trit != 0);
        }
    }
    let mut sum = 0;
    for count in counts {
        sum += u32::from(count);
    }
    for trit in rest {
        sum += u32::from(*trit != 0);
    }
    u64::from(sum)
}

#[inline(always)]
fn total(lanes: &[f64; LANES]) -> f64 {
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    sum
}
