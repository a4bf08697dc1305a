//! Which tokens of a row are masked.

use super::draws::{Bound, Draws};
use super::mask_plan::Plan;
use super::masking::Count;
use super::span_lengths::SpanLengths;
use super::subset::{Subset, read_bits, read_room};
use super::word_bits::{special_words, spread, window};
use crate::rng::Key;
use crate::simd::Lanes;
use crate::tokens::Token;
use crate::{Result, memory};

/// Chooses the masked positions of a row, in memory that the rows of a thread share.
pub(super) struct Chooser {
    draws: Draws,
    subset: Subset,
    special: Vec<u8>,
    /// The bits of the chosen tokens of the last row.
    pub(super) bits: Vec<u64>,
    positions: Vec<u32>,
    /// For each token of the last row, 1 if it starts a word.
    first_tokens: Vec<u8>,
    starts: Vec<u64>,
    /// The bits of the chosen words.
    words: Vec<u64>,
    /// The bits of the special tokens, to remove them from spans.
    specials: Vec<u64>,
}

impl Chooser {
    pub(super) fn new(key: Key) -> Self {
        Self {
            draws: Draws::new(key),
            subset: Subset::new(),
            special: Vec::new(),
            bits: Vec::new(),
            positions: Vec::new(),
            first_tokens: Vec::new(),
            starts: Vec::new(),
            words: Vec::new(),
            specials: Vec::new(),
        }
    }

    /// Makes room for the longest row.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if there is not enough memory.
    pub(super) fn reserve(&mut self, longest: usize) -> Result<()> {
        self.subset.reserve(longest)?;
        memory::grow(&mut self.special, longest)?;
        memory::grow(&mut self.positions, read_room(longest))?;
        memory::grow(&mut self.first_tokens, longest)?;
        for bits in [&mut self.bits, &mut self.starts, &mut self.words, &mut self.specials] {
            memory::grow(bits, longest.div_ceil(64))?;
        }
        Ok(())
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
        plan.mark_special(ids, &mut self.special);
        pack::<L>(&self.special, &mut self.bits);
        if self.bits.iter().any(|word| *word != 0) {
            // Ids outside the vocabulary are marked as well.
            plan.check_ids(ids, row)?;
        }
        if let Some(table) = plan.word_starts {
            self.whole_words::<L, T>(plan, ids, table, uniform);
            return Ok(());
        }
        self.eligible::<L>(plan, ids.len(), uniform);
        if let Some(lengths) = plan.span_lengths {
            self.lengthen::<L>(lengths, ids.len());
        }
        Ok(())
    }

    /// Replaces the bits of the special tokens by those of all tokens of the chosen words.
    #[inline(always)]
    fn whole_words<L: Lanes, T: Token>(
        &mut self,
        plan: &Plan,
        ids: &[T],
        table: &[bool],
        uniform: f64,
    ) {
        let starts = |id: &T| table.get(id.widen() as usize).is_none_or(|starts| *starts);
        self.first_tokens.clear();
        self.first_tokens.extend(ids.iter().map(|id| u8::from(starts(id))));
        if let Some(first) = self.first_tokens.first_mut() {
            *first = 1;
        }
        pack::<L>(&self.first_tokens, &mut self.starts);
        let count = special_words(&self.starts, &self.bits, &mut self.words);
        std::mem::swap(&mut self.bits, &mut self.words);
        self.eligible::<L>(plan, count, uniform);
        std::mem::swap(&mut self.bits, &mut self.words);
        spread::<L>(&self.words, &self.starts, ids.len(), &mut self.bits);
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
            *word = L::deposit(window(ranks, taken), free);
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
        pack::<L>(&self.special, &mut self.specials);
        for (word, special) in self.bits.iter_mut().zip(&self.specials) {
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
