//! The draw from one row of logits, compiled for every instruction set.

use super::logits::Logit;
use crate::simd::weights::BLOCK;
use crate::simd::{Job, Lanes};
use crate::softmax::{acceptance, below, distance, envelope};

/// Number of proposals, the last of which is accepted: it is reached once in 2^64 rows.
const MOST: u32 = 64;

/// A row, and what its draw needs.
pub(super) struct Row<'a, T> {
    pub logits: &'a [T],
    /// The factor of [`crate::softmax::scale`].
    pub scale: f32,
    /// The random words of each proposal.
    pub words: &'a dyn Fn(u32) -> [u32; 4],
    /// Room for the sums up to each block.
    pub totals: &'a mut Vec<u64>,
}

/// Why nothing can be drawn from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// A logit is NaN or +Inf.
    Refused,
    /// All logits are -Inf.
    Empty,
    /// Another thread has written the logits.
    Changed,
}

impl<T: Logit> Job for Row<'_, T> {
    type Output = Result<usize, Unfit>;

    /// Proposes tokens until one is accepted. The proposal is the first token whose inclusive sum
    /// of envelopes exceeds `floor(uniform * total / 2^64)`.
    #[inline(always)]
    fn run<L: Lanes>(self) -> Self::Output {
        let Self { logits, scale, words, totals } = self;
        let max = T::greatest(logits).ok_or(Unfit::Refused)?;
        if max == f32::NEG_INFINITY {
            return Err(Unfit::Empty);
        }
        let mut buffer = [0.0; BLOCK];
        totals.clear();
        let mut total = 0;
        for block in logits.chunks(BLOCK) {
            total += L::envelopes(T::block(block, &mut buffer), max, scale);
            totals.push(total);
        }
        for proposal in 0..MOST {
            let [low, high, chance, _] = words(proposal);
            let uniform = u64::from(low) | u64::from(high) << 32;
            let target = below(uniform, total);
            let block = totals.partition_point(|sum| *sum <= target);
            let mut sum = if block == 0 { 0 } else { totals[block - 1] };
            let start = block * BLOCK;
            let rest = logits.get(start..).unwrap_or_default();
            let found = rest.iter().position(|logit| {
                sum += envelope(distance(max, logit.to_f32(), scale));
                sum > target
            });
            // The target is below the total, which the greatest logit keeps above 0.
            let token = start + found.ok_or(Unfit::Changed)?;
            let accepted = acceptance(distance(max, logits[token].to_f32(), scale));
            if u64::from(chance) < accepted || proposal == MOST - 1 {
                return Ok(token);
            }
        }
        Err(Unfit::Changed)
    }
}
