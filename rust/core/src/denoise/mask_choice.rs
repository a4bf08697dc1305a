//! Which tokens of a row are masked.

use super::draws::{Bound, Draws};
use super::mask_plan::Plan;
use super::masking::Count;
use super::span_lengths::SpanLengths;
use super::subset::{Subset, read_bits};
use super::words_of_row::RowWords;
use crate::Result;
use crate::rng::Key;
use crate::simd::Lanes;
use crate::tokens::Token;

/// Chooses the masked positions of a row, in memory that the rows of a thread share.
pub(super) struct Chooser {
    draws: Draws,
    subset: Subset,
    special: Vec<u8>,
    /// The bits of the chosen tokens of the last row.
    pub(super) bits: Vec<u64>,
    positions: Vec<u32>,
    words: RowWords,
}

impl Chooser {
    pub(super) fn new(key: Key) -> Self {
        Self {
            draws: Draws::new(key),
            subset: Subset::new(),
            special: Vec::new(),
            bits: Vec::new(),
            positions: Vec::new(),
            words: RowWords::default(),
        }
    }

    /// Sets the bits of the chosen tokens.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    #[inline(always)]
    pub(super) fn choose<L: Lanes, T: Token>(
        &mut self,
        plan: &Plan,
        ids: &[T],
        row: usize,
        sample_id: u64,
    ) -> Result<()> {
        self.draws.start(sample_id);
        let uniform = self.draws.uniform::<L>();
        if let Some(table) = plan.word_starts {
            plan.check_ids(ids, row)?;
            self.words.read(ids, Some(table), &plan.special);
            let count = self.words.count();
            self.bits.clone_from(&self.words.special);
            self.bits.truncate(count.div_ceil(64));
            self.eligible::<L>(plan, count, uniform);
            let chosen = std::mem::take(&mut self.bits);
            self.bits.resize(ids.len().div_ceil(64), 0);
            for word in read_bits::<L>(&chosen, &mut self.positions) {
                let ends = &self.words.starts[*word as usize..][..2];
                for token in ends[0]..ends[1] {
                    self.bits[token as usize / 64] |= 1 << (token % 64);
                }
            }
            return Ok(());
        }
        plan.mark_special(ids, &mut self.special);
        pack::<L>(&self.special, &mut self.bits);
        if self.bits.iter().any(|word| *word != 0) {
            // Ids outside the vocabulary are marked as well.
            plan.check_ids(ids, row)?;
        }
        self.eligible::<L>(plan, ids.len(), uniform);
        if let Some(lengths) = plan.span_lengths {
            self.lengthen::<L>(lengths, ids.len());
        }
        Ok(())
    }

    /// Replaces the bits of the special units, which are tokens or words, by those of the chosen ones.
    #[inline(always)]
    fn eligible<L: Lanes>(&mut self, plan: &Plan, units: usize, uniform: f64) {
        let special: usize = self.bits.iter().map(|word| word.count_ones() as usize).sum();
        let eligible = units - special;
        let count = plan.count(eligible, units, uniform);
        self.draws.expect(count + count / 8);
        if plan.how_many == Count::Electra {
            self.with_replacement::<L>(count, eligible);
        } else {
            self.subset.draw::<L>(&mut self.draws, count.min(eligible), eligible);
        }
        let ranks = self.subset.bits();
        if special == 0 {
            self.bits.copy_from_slice(ranks);
            return;
        }
        // Spreads the bits of the ranks over the places that are not special.
        let mut taken = 0;
        for (index, word) in self.bits.iter_mut().enumerate() {
            let left = units - 64 * index;
            let free = !*word & if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            let low = ranks.get(taken / 64).map_or(0, |bits| bits >> (taken % 64));
            let high = ranks.get(taken / 64 + 1).map_or(0, |bits| bits << 1 << (63 - taken % 64));
            *word = L::deposit(low | high, free);
            taken += free.count_ones() as usize;
        }
    }

    /// ELECTRA's draw: `count` times, with replacement; a token that is drawn twice counts once.
    #[inline(always)]
    fn with_replacement<L: Lanes>(&mut self, count: usize, of: usize) {
        let bits = self.subset.clear(of);
        if of > 0 {
            let bound = Bound::new(of as u32);
            for _ in 0..count {
                let item = self.draws.below::<L>(bound) as usize;
                bits[item / 64] |= 1 << (item % 64);
            }
        }
    }

    /// Makes spans of the chosen starts. They may overlap, and end with the row at the latest.
    #[inline(always)]
    fn lengthen<L: Lanes>(&mut self, lengths: &SpanLengths, tokens: usize) {
        let starts = read_bits::<L>(&self.bits, &mut self.positions);
        self.bits.fill(0);
        for start in starts {
            let length = lengths.of(self.draws.next::<L>());
            for token in *start as usize..tokens.min(*start as usize + length) {
                self.bits[token / 64] |= 1 << (token % 64);
            }
        }
        let mut special = Vec::new();
        pack::<L>(&self.special, &mut special);
        for (word, special) in self.bits.iter_mut().zip(special) {
            *word &= !special;
        }
    }
}

/// Packs bytes of 0 and 1 into bits.
#[inline(always)]
fn pack<L: Lanes>(bytes: &[u8], bits: &mut Vec<u64>) {
    let (whole, rest) = bytes.as_chunks::<64>();
    bits.clear();
    bits.extend(whole.iter().map(L::pack));
    if !rest.is_empty() {
        let mut last = [0; 64];
        last[..rest.len()].copy_from_slice(rest);
        bits.push(L::pack(&last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Job, Level};

    struct Pack<'a>(&'a [u8]);

    impl Job for Pack<'_> {
        type Output = Vec<u64>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u64> {
            let mut bits = vec![7];
            pack::<L>(self.0, &mut bits);
            bits
        }
    }

    #[test]
    fn bytes_are_packed_in_order() {
        let bytes: Vec<u8> = (0..203).map(|i| u8::from(i * i % 7 < 3)).collect();
        let bits = Level::best().run(Pack(&bytes));
        assert_eq!(bits.len(), 4);
        for (token, byte) in bytes.iter().enumerate() {
            assert_eq!(bits[token / 64] >> (token % 64) & 1, u64::from(*byte));
        }
    }
}
