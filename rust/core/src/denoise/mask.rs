//! Masks for an auxiliary model: an exact count of tokens, each of which becomes the mask token or a
//! random one, or is kept.
//!
//! The default is the rule of gonglinyuan/metro_t0, `fairseq/data/mask_tokens_dataset.py`
//! (arXiv 2305.12567), drawn once for input and target; docs/denoising.md is the specification. The
//! options decide what upstream does by accident: if no ids are special, special tokens are masked
//! and drawn.

use super::IGNORED;
use super::draws::Draws;
use super::mask_choice::Chooser;
use super::mask_plan::Plan;
use super::masking::Masking;
use super::subset::{read_bits, read_room};
use crate::rng::{Key, Stream};
use crate::simd::{Job, Lanes, Level};
use crate::threads::for_each;
use crate::tokens::{Id, Rows, SampleIds, Token};
use crate::{Error, Result, memory};

/// Number of random ids whose words are computed side by side.
const LANES: usize = 8;

/// The arrays that [`mask_tokens`] writes, `[rows, width]` each; the width follows from the size.
#[derive(Debug)]
pub struct MaskOutput<'a, O> {
    /// Masked rows, padded with the pad id.
    pub input_ids: &'a mut [O],
    /// The original ids, padded with -100.
    pub labels: &'a mut [O],
    /// 1 for the tokens of a row, 0 for its padding.
    pub attention_mask: Option<&'a mut [O]>,
    /// Number of tokens in every row.
    pub lengths: &'a mut [i64],
}

/// Masks every row; returns the flat indices into `[rows, width]` that were chosen, ascending.
///
/// The words of (sample id, 0) give the count and the positions of a row. Word `i` of the stream of
/// kinds gives the kind of its `i`-th masked token, and the words of (sample id, p + 1) give a random
/// id at position `p`.
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
    let mut positions = memory::filled(count.div_ceil(share), Vec::new)?;
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
        });
    for_each(num_threads, memory::collect(shares)?, |masker| level.run(masker))?;
    if positions.len() == 1 {
        return Ok(positions.swap_remove(0));
    }
    let mut all = memory::with_room(positions.iter().map(Vec::len).sum())?;
    for some in &positions {
        all.extend_from_slice(some);
    }
    Ok(all)
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
        let mut chooser = Chooser::new(self.keys[0]);
        let mut kinds = Kinds::new(self.keys[1]);
        let (mut positions, width) = (Vec::new(), self.width);
        let expected = self.plan.probability * (self.lengths.len() * width) as f64;
        memory::grow(self.positions, (expected as usize).saturating_add(64))?;
        let longest = self.rows.longest();
        chooser.reserve(longest)?;
        kinds.reserve(longest)?;
        memory::grow(&mut positions, read_room(longest))?;
        for place in 0..self.lengths.len() {
            let row = self.first + place;
            let ids = self.rows.row(row);
            let sample_id = self.sample_ids.get(row);
            chooser.choose::<L, T>(self.plan, ids, row, sample_id)?;
            let chosen = read_bits::<L>(&chooser.bits, &mut positions);
            let start = (row * width) as i64;
            memory::grow(self.positions, chosen.len())?;
            self.positions.extend(chosen.iter().map(|position| start + i64::from(*position)));
            kinds.draw::<L>(self.plan, sample_id, chosen.len(), &chooser.bits);
            self.write::<L>(place, ids, &kinds.hidden);
            let replaced = read_bits::<L>(&kinds.replaced, &mut positions);
            self.replace(place, replaced, sample_id);
        }
        Ok(())
    }
}

impl<T: Token, O: Id> Masker<'_, '_, T, O> {
    /// Writes a row, its masks and its padding, but not yet its random ids.
    #[inline(always)]
    fn write<L: Lanes>(&mut self, place: usize, ids: &[T], hidden: &[u64]) {
        let (start, width) = (place * self.width, self.width);
        let (input, label) =
            (&mut self.inputs[start..][..width], &mut self.labels[start..][..width]);
        let filler = O::from_i64(self.plan.mask_token);
        let (shown, labeled) = (&mut input[..ids.len()], &mut label[..ids.len()]);
        L::copy_hiding(ids, hidden, filler, shown, labeled);
        input[ids.len()..].fill(O::from_i64(self.plan.pad));
        label[ids.len()..].fill(O::from_i64(IGNORED));
        if let Some(mask) = &mut self.mask {
            let mask = &mut mask[start..][..width];
            mask[..ids.len()].fill(O::from_i64(1));
            mask[ids.len()..].fill(O::from_i64(0));
        }
        self.lengths[place] = ids.len() as i64;
    }

    /// Writes random ids at positions of a row.
    #[inline(always)]
    fn replace(&mut self, place: usize, positions: &[u32], sample_id: u64) {
        let (plan, key) = (self.plan, self.keys[0]);
        let input = &mut self.inputs[place * self.width..][..self.width];
        for group in positions.chunks(LANES) {
            let mut places = [0; LANES];
            for (place, position) in places.iter_mut().zip(group) {
                *place = position + 1;
            }
            let words = key.words_at(sample_id, places)[0];
            for (position, word) in group.iter().zip(words) {
                let rank = plan.random_bound.of(word).unwrap_or_else(|| {
                    let mut words = key.words_from(sample_id, position + 1);
                    words.below(plan.random_count)
                });
                input[*position as usize] = O::from_i64(plan.random_id(rank));
            }
        }
    }
}

/// The kinds of the masked tokens of a row, in memory that the rows of a thread share.
struct Kinds {
    draws: Draws,
    by_rank: Vec<(u64, u64)>,
    /// Bits of the tokens that become the mask token.
    hidden: Vec<u64>,
    /// Bits of the tokens that become random ones.
    replaced: Vec<u64>,
}

impl Kinds {
    fn new(key: Key) -> Self {
        let (by_rank, hidden, replaced) = (Vec::new(), Vec::new(), Vec::new());
        Self { draws: Draws::new(key), by_rank, hidden, replaced }
    }

    /// Makes room for the longest row.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not enough memory.
    fn reserve(&mut self, longest: usize) -> Result<()> {
        let words = longest.div_ceil(64);
        memory::grow(&mut self.by_rank, words)?;
        memory::grow(&mut self.hidden, words)?;
        memory::grow(&mut self.replaced, words)
    }

    /// Draws the kinds of the `count` tokens whose bits are in `chosen`.
    #[inline(always)]
    fn draw<L: Lanes>(&mut self, plan: &Plan, sample_id: u64, count: usize, chosen: &[u64]) {
        self.draws.start(sample_id);
        self.draws.expect(count);
        self.by_rank.clear();
        for first in (0..count).step_by(64) {
            let some = (count - first).min(64);
            let pair = self.draws.two_below::<L>(some, plan.mask_below, plan.random_below);
            self.by_rank.push(pair);
        }
        self.hidden.clear();
        self.replaced.clear();
        let mut rank = 0;
        for word in chosen {
            let (mask, random) = window(&self.by_rank, rank);
            self.hidden.push(L::deposit(mask, *word));
            self.replaced.push(L::deposit(random & !mask, *word));
            rank += word.count_ones() as usize;
        }
    }
}

/// The 64 bits from bit `start` on, in both halves of the pairs; bits beyond the end are 0.
#[inline(always)]
fn window(bits: &[(u64, u64)], start: usize) -> (u64, u64) {
    let (word, shift) = (start / 64, start % 64);
    let low = bits.get(word).copied().unwrap_or_default();
    let high = bits.get(word + 1).copied().unwrap_or_default();
    let join = |low: u64, high: u64| low >> shift | high << 1 << (63 - shift);
    (join(low.0, high.0), join(low.1, high.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_join_neighboring_words() {
        let bits = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0xaaaa_5555_0f0f_f0f0, 0x7ff];
        let pairs: Vec<(u64, u64)> = bits.iter().map(|word| (*word, !word)).collect();
        for token in 0..203 {
            let bit = bits[token / 64] >> (token % 64) & 1;
            let (ones, zeros) = window(&pairs, token);
            assert_eq!((ones & 1, zeros & 1), (bit, 1 - bit));
        }
        assert_eq!(window(&pairs, 64), pairs[1]);
        assert_eq!(window(&pairs, 256), (0, 0));
    }
}
