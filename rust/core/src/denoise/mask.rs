//! Masks for an auxiliary model: an exact count of tokens, then mask, random or kept.
//!
//! The default law is that of gonglinyuan/metro_t0, `fairseq/data/mask_tokens_dataset.py`
//! (arXiv 2305.12567), drawn once for input and target; docs/denoising.md is the specification. What
//! upstream does by accident is left to the options: with no special ids, special tokens are masked
//! and drawn.

use super::IGNORED;
use super::draws::{Bound, Draws};
use super::mask_plan::{Count, Masking, Plan};
use super::subset::{Subset, read_bits};
use super::words_of_row::RowWords;
use crate::rng::{Key, Stream};
use crate::simd::{Job, Lanes, Level};
use crate::threads::for_each;
use crate::tokens::{Id, Rows, SampleIds, Token};
use crate::{Error, Result};

/// Random ids whose words are computed side by side.
const LANES: usize = 8;

/// Where [`mask_tokens`] writes, `[rows, width]` each; the width follows from the size.
#[derive(Debug)]
pub struct MaskOutput<'a, O> {
    /// Masked rows, padded with the pad id.
    pub input_ids: &'a mut [O],
    /// The original ids, padded with -100.
    pub labels: &'a mut [O],
    /// 1 for the tokens of a row, 0 for its padding.
    pub attention_mask: Option<&'a mut [O]>,
    /// Tokens of every row.
    pub lengths: &'a mut [i64],
}

/// Masks every row; returns the flat indices into `[rows, width]` that were chosen, ascending.
///
/// The count and the positions of a row follow from the words of (sample id, 0), the kind of its
/// `i`-th masked token from word `i` of the stream of kinds, and a random id at position `p` from the
/// words of (sample id, p + 1).
///
/// # Errors
/// An option outside its domain, an output of the wrong size, or an id outside the vocabulary: the
/// message names row and column.
pub fn mask_tokens<T: Token, O: Id>(
    rows: &Rows<T>,
    sample_ids: &SampleIds,
    options: &Masking,
    (seed, epoch): (u64, u64),
    level: Level,
    num_threads: usize,
    output: MaskOutput<O>,
) -> Result<Vec<i64>> {
    let plan = Plan::new(options, O::MAX)?;
    let count = rows.count();
    let (width, longest) = (output.input_ids.len() / count, rows.longest());
    if output.input_ids.len() != width * count
        || output.labels.len() != output.input_ids.len()
        || output.attention_mask.as_ref().is_some_and(|mask| mask.len() != output.input_ids.len())
        || output.lengths.len() != count
    {
        return Err(Error::Shape(format!("out does not hold arrays of {count} equal rows")));
    }
    if width < longest || longest >= 1 << 31 {
        return Err(Error::Shape(format!(
            "out has width {width}, expected at least {longest}, the longest row, which must be under 2^31"
        )));
    }
    let share = count.div_ceil(num_threads.max(1));
    let mut positions: Vec<Vec<i64>> = vec![Vec::new(); count.div_ceil(share)];
    let mut masks = output.attention_mask.map(|mask| mask.chunks_mut(share * width));
    let shares = output
        .input_ids
        .chunks_mut(share * width)
        .zip(output.labels.chunks_mut(share * width))
        .zip(output.lengths.chunks_mut(share).zip(&mut positions))
        .enumerate()
        .map(|(index, ((inputs, labels), (lengths, positions)))| Masker {
            rows,
            sample_ids,
            plan: &plan,
            keys: [Stream::Mask, Stream::Kind].map(|stream| Key::new(seed, epoch, stream)),
            first: index * share,
            width,
            inputs,
            labels,
            mask: masks.as_mut().and_then(Iterator::next),
            lengths,
            positions,
        })
        .collect();
    for_each(num_threads, shares, |masker| level.run(masker))?;
    Ok(if positions.len() == 1 { positions.swap_remove(0) } else { positions.concat() })
}

struct Masker<'a, 'b, T, O> {
    rows: &'a Rows<'b, T>,
    sample_ids: &'a SampleIds<'b>,
    plan: &'a Plan<'a>,
    keys: [Key; 2],
    first: usize,
    width: usize,
    inputs: &'a mut [O],
    labels: &'a mut [O],
    mask: Option<&'a mut [O]>,
    lengths: &'a mut [i64],
    positions: &'a mut Vec<i64>,
}

impl<T: Token, O: Id> Job for Masker<'_, '_, T, O> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(mut self) -> Result<()> {
        let (plan, width) = (self.plan, self.width);
        let mut chooser = Chooser::new(self.keys[0]);
        let mut kinds = Draws::new(self.keys[1]);
        let (mut positions, mut by_rank) = (Vec::new(), Vec::new());
        let (mut hidden, mut replaced) = (Vec::new(), Vec::new());
        let expected = plan.probability * (self.lengths.len() * width) as f64;
        self.positions.reserve(expected as usize + 64);
        for (place, length) in self.lengths.iter_mut().enumerate() {
            let row = self.first + place;
            let ids = self.rows.row(row);
            let sample_id = self.sample_ids.get(row);
            let (input, label) = (
                &mut self.inputs[place * width..][..width],
                &mut self.labels[place * width..][..width],
            );
            chooser.choose::<L, T>(plan, ids, row, sample_id)?;
            let chosen = read_bits::<L>(&chooser.bits, &mut positions);
            let start = (row * width) as i64;
            self.positions.extend(chosen.iter().map(|position| start + i64::from(*position)));

            // The kinds of the masked tokens, and whose bits they are in the row.
            kinds.start(sample_id);
            kinds.expect(chosen.len());
            by_rank.clear();
            for first in (0..chosen.len()).step_by(64) {
                let count = (chosen.len() - first).min(64);
                by_rank.push(kinds.two_below::<L>(count, plan.mask_below, plan.random_below));
            }
            hidden.clear();
            replaced.clear();
            let mut rank = 0;
            for word in &chooser.bits {
                let (mask, random) = window(&by_rank, rank);
                hidden.push(L::deposit(mask, *word));
                replaced.push(L::deposit(random & !mask, *word));
                rank += word.count_ones() as usize;
            }
            let filler = O::from_i64(plan.mask_token);
            let (shown, labeled) = (&mut input[..ids.len()], &mut label[..ids.len()]);
            L::copy_hiding(ids, &hidden, filler, shown, labeled);
            input[ids.len()..].fill(O::from_i64(plan.pad));
            label[ids.len()..].fill(O::from_i64(IGNORED));
            if let Some(mask) = &mut self.mask {
                let mask = &mut mask[place * width..][..width];
                mask[..ids.len()].fill(O::from_i64(1));
                mask[ids.len()..].fill(O::from_i64(0));
            }
            *length = ids.len() as i64;

            for group in read_bits::<L>(&replaced, &mut positions).chunks(LANES) {
                let mut places = [0; LANES];
                for (place, position) in places.iter_mut().zip(group) {
                    *place = position + 1;
                }
                let words = self.keys[0].words_at(sample_id, places)[0];
                for (position, word) in group.iter().zip(words) {
                    let rank = plan.random_bound.of(word).unwrap_or_else(|| {
                        let mut words = self.keys[0].words_from(sample_id, position + 1);
                        words.below(plan.random_count)
                    });
                    input[*position as usize] = O::from_i64(plan.random_id(rank));
                }
            }
        }
        Ok(())
    }
}

/// Chooses the masked positions of a row, in memory that the rows of a thread share.
struct Chooser {
    draws: Draws,
    subset: Subset,
    special: Vec<u8>,
    bits: Vec<u64>,
    positions: Vec<u32>,
    words: RowWords,
}

impl Chooser {
    fn new(key: Key) -> Self {
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
    fn choose<L: Lanes, T: Token>(
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
            self.eligible::<L>(plan, count, ids.len(), uniform);
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
            // What is outside the vocabulary is marked as well.
            plan.check_ids(ids, row)?;
        }
        self.eligible::<L>(plan, ids.len(), ids.len(), uniform);
        if let Some(lengths) = plan.span_lengths {
            self.lengthen::<L>(lengths, ids.len());
        }
        Ok(())
    }

    /// Turns the bits of what is special into those of what is chosen.
    #[inline(always)]
    fn eligible<L: Lanes>(&mut self, plan: &Plan, units: usize, tokens: usize, uniform: f64) {
        let special: usize = self.bits.iter().map(|word| word.count_ones() as usize).sum();
        let eligible = units - special;
        let count = plan.count(eligible, tokens, uniform);
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
        // The bits of the ranks, spread over the places that are not special.
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

    /// ELECTRA's draw: `count` times, with replacement; the same one twice counts once.
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

    /// Makes spans of the chosen starts, that end with the row and may overlap.
    #[inline(always)]
    fn lengthen<L: Lanes>(&mut self, lengths: &super::SpanLengths, tokens: usize) {
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

/// 64 bits from bit `start` on, of both halves of the pairs; what is beyond the end is 0.
#[inline(always)]
fn window(bits: &[(u64, u64)], start: usize) -> (u64, u64) {
    let (word, shift) = (start / 64, start % 64);
    let low = bits.get(word).copied().unwrap_or_default();
    let high = bits.get(word + 1).copied().unwrap_or_default();
    let join = |low: u64, high: u64| low >> shift | high << 1 << (63 - shift);
    (join(low.0, high.0), join(low.1, high.1))
}

/// Bytes of 0 and 1 as bits.
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
    fn packing_and_windows() {
        let bytes: Vec<u8> = (0..203).map(|i| u8::from(i * i % 7 < 3)).collect();
        let bits = Level::best().run(Pack(&bytes));
        assert_eq!(bits.len(), 4);
        let pairs: Vec<(u64, u64)> = bits.iter().map(|word| (*word, !word)).collect();
        for (token, byte) in bytes.iter().enumerate() {
            assert_eq!(bits[token / 64] >> (token % 64) & 1, u64::from(*byte));
            let (ones, zeros) = window(&pairs, token);
            assert_eq!((ones & 1, zeros & 1), (u64::from(*byte), 1 - u64::from(*byte)));
        }
        assert_eq!(window(&pairs, 64), pairs[1]);
        assert_eq!(window(&pairs, 256), (0, 0));
    }
}
