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
        let mut random = Vec::new();
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
            for ((input, label), id) in input.iter_mut().zip(label.iter_mut()).zip(ids) {
                *input = O::from_token(*id);
                *label = O::from_token(*id);
            }
            input[ids.len()..].fill(O::from_i64(plan.pad));
            label[ids.len()..].fill(O::from_i64(IGNORED));
            if let Some(mask) = &mut self.mask {
                let mask = &mut mask[place * width..][..width];
                mask[..ids.len()].fill(O::from_i64(1));
                mask[ids.len()..].fill(O::from_i64(0));
            }
            *length = ids.len() as i64;
            let chosen = chooser.choose::<L, T>(plan, ids, row, sample_id)?;
            let start = (row * width) as i64;
            self.positions.extend(chosen.iter().map(|position| start + i64::from(*position)));

            random.resize(chosen.len() + 1, 0);
            let (mut at, mut randoms) = (0, 0);
            kinds.start(sample_id);
            while at < chosen.len() {
                let ready = kinds.ready::<L>();
                let count = ready.len().min(chosen.len() - at);
                for (position, kind) in chosen[at..at + count].iter().zip(ready) {
                    let slot = &mut input[*position as usize];
                    let kind = u64::from(*kind);
                    // Selects and an unconditional store: a branch here is wrong for every fifth.
                    *slot =
                        if kind < plan.mask_below { O::from_i64(plan.mask_token) } else { *slot };
                    random[randoms] = *position;
                    randoms += usize::from(kind >= plan.mask_below && kind < plan.random_below);
                }
                at += count;
                kinds.use_up(count);
            }
            for group in random[..randoms].chunks(LANES) {
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

    /// The positions, ascending.
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
    ) -> Result<&[u32]> {
        self.draws.start(sample_id);
        let uniform = self.draws.uniform::<L>();
        if let Some(table) = plan.word_starts {
            plan.check_ids(ids, row)?;
            self.words.read(ids, Some(table), &plan.special);
            self.bits.clone_from(&self.words.special);
            let count = self.words.count();
            self.bits.truncate(count.div_ceil(64));
            let bits = std::mem::take(&mut self.bits);
            self.bits = self.eligible::<L>(plan, bits, count, ids.len(), uniform);
            let words = read_bits::<L>(&self.bits, &mut self.positions).to_vec();
            self.positions.clear();
            for word in words {
                let (start, end) =
                    (self.words.starts[word as usize], self.words.starts[word as usize + 1]);
                self.positions.extend(start..end);
            }
            return Ok(&self.positions);
        }
        plan.mark_special(ids, &mut self.special);
        let mut bits = std::mem::take(&mut self.bits);
        pack(&self.special, &mut bits);
        if bits.iter().any(|word| *word != 0) {
            // What is outside the vocabulary is marked as well.
            plan.check_ids(ids, row)?;
        }
        self.bits = self.eligible::<L>(plan, bits, ids.len(), ids.len(), uniform);
        if let Some(lengths) = plan.span_lengths {
            self.lengthen::<L>(lengths, ids.len());
        }
        Ok(read_bits::<L>(&self.bits, &mut self.positions))
    }

    /// Turns the bits of what is special into those of what is chosen.
    #[inline(always)]
    fn eligible<L: Lanes>(
        &mut self,
        plan: &Plan,
        mut bits: Vec<u64>,
        units: usize,
        tokens: usize,
        uniform: f64,
    ) -> Vec<u64> {
        let special: usize = bits.iter().map(|word| word.count_ones() as usize).sum();
        let eligible = units - special;
        let count = plan.count(eligible, tokens, uniform);
        if plan.how_many == Count::Electra {
            self.with_replacement::<L>(count, eligible);
        } else {
            self.subset.draw::<L>(&mut self.draws, count.min(eligible), eligible);
        }
        let ranks = self.subset.bits();
        if special == 0 {
            bits.copy_from_slice(ranks);
            return bits;
        }
        // The bits of the ranks, spread over the places that are not special.
        let mut taken = 0;
        for (index, word) in bits.iter_mut().enumerate() {
            let left = units - 64 * index;
            let free = !*word & if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            *word = L::deposit(window(ranks, taken), free);
            taken += free.count_ones() as usize;
        }
        bits
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
        pack(&self.special, &mut special);
        for (word, special) in self.bits.iter_mut().zip(special) {
            *word &= !special;
        }
    }
}

/// 64 bits from bit `start` on; what is beyond the end is 0.
#[inline(always)]
fn window(bits: &[u64], start: usize) -> u64 {
    let (word, shift) = (start / 64, start % 64);
    let low = bits.get(word).map_or(0, |bits| bits >> shift);
    let high = bits.get(word + 1).map_or(0, |bits| bits << 1 << (63 - shift));
    low | high
}

/// Bytes of 0 and 1 as bits.
#[inline(always)]
fn pack(bytes: &[u8], bits: &mut Vec<u64>) {
    bits.clear();
    bits.resize(bytes.len().div_ceil(64), 0);
    let (eights, rest) = bytes.as_chunks::<8>();
    for (place, eight) in eights.iter().enumerate() {
        // The product brings bit 0 of byte i to bit 56 + i, and no two of its terms collide.
        let packed = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits[place / 8] |= packed << (8 * (place % 8));
    }
    for (offset, byte) in rest.iter().enumerate() {
        let token = 8 * eights.len() + offset;
        bits[token / 64] |= u64::from(*byte) << (token % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_windows() {
        let bytes: Vec<u8> = (0..203).map(|i| u8::from(i * i % 7 < 3)).collect();
        let mut bits = vec![7];
        pack(&bytes, &mut bits);
        assert_eq!(bits.len(), 4);
        for (token, byte) in bytes.iter().enumerate() {
            assert_eq!(bits[token / 64] >> (token % 64) & 1, u64::from(*byte));
            assert_eq!(window(&bits, token) & 1, u64::from(*byte));
        }
        assert_eq!(window(&bits, 64), bits[1]);
        assert_eq!(window(&bits, 256), 0);
    }
}
