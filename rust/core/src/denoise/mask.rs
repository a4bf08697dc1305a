//! METRO's masks for the auxiliary model: an exact count of single tokens, then mask, random or kept.
//!
//! The law is that of gonglinyuan/metro_t0, `fairseq/data/mask_tokens_dataset.py` with
//! `mask_multiple_length` 1 (arXiv 2305.12567), drawn once for input and target. What upstream does
//! by accident is left to the options: with no special ids, special tokens are masked and drawn.

use super::IGNORED;
use super::choose::Chosen;
use super::mask_plan::{Masking, Plan};
use crate::rng::{Key, Words};
use crate::threads::for_each;
use crate::tokens::{Rows, SampleIds, Token};
use crate::{Error, Result};

/// Masked positions whose words are computed side by side.
const LANES: usize = 4;

/// Where [`mask_tokens`] writes; the width is `input_ids.len() / rows`.
#[derive(Debug)]
pub struct MaskOutput<'a> {
    /// Masked rows, `[rows, width]`, padded with the pad id.
    pub input_ids: &'a mut [i64],
    /// The original ids, `[rows, width]`, padded with -100.
    pub labels: &'a mut [i64],
    /// Tokens of every row.
    pub lengths: &'a mut [i64],
}

/// Masks every row; returns the flat indices into `[rows, width]` that were chosen, ascending.
///
/// Of the `n` eligible tokens of a row, exactly `floor(probability * n + U)` are chosen, `U` being
/// uniform: word 0 of (sample id, 0), and the positions follow from the words after it. The kind of
/// position `p` is word 0 of (sample id, p + 1), its random id the words after that.
///
/// # Errors
/// An option outside its domain, an output of the wrong size, or an id outside the vocabulary: the
/// message names row and column.
pub fn mask_tokens<T: Token>(
    rows: &Rows<T>,
    sample_ids: &SampleIds,
    options: &Masking,
    key: Key,
    num_threads: usize,
    output: MaskOutput,
) -> Result<Vec<i64>> {
    let plan = Plan::new(options)?;
    let count = rows.count();
    let (width, longest) = (output.input_ids.len() / count, rows.longest());
    if output.input_ids.len() != width * count
        || output.labels.len() != output.input_ids.len()
        || output.lengths.len() != count
    {
        return Err(Error::Shape(format!("out does not hold two arrays of {count} equal rows")));
    }
    if width < longest || longest >= u32::MAX as usize {
        return Err(Error::Shape(format!(
            "out has width {width}, expected at least {longest}, the longest row, which must be under 2^32 - 1"
        )));
    }
    let share = count.div_ceil(num_threads.max(1));
    let mut positions: Vec<Vec<i64>> = vec![Vec::new(); count.div_ceil(share)];
    let shares = output
        .input_ids
        .chunks_mut(share * width)
        .zip(output.labels.chunks_mut(share * width))
        .zip(output.lengths.chunks_mut(share).zip(&mut positions))
        .enumerate()
        .collect();
    for_each(num_threads, shares, |(index, ((inputs, labels), (lengths, positions)))| {
        let mut scratch = Scratch::default();
        let outputs = inputs.chunks_exact_mut(width).zip(labels.chunks_exact_mut(width));
        for (offset, ((input, label), length)) in outputs.zip(lengths).enumerate() {
            let row = index * share + offset;
            let ids = rows.row(row);
            for ((input, label), id) in input.iter_mut().zip(label.iter_mut()).zip(ids) {
                *input = id.widen();
                *label = id.widen();
            }
            input[ids.len()..].fill(options.pad);
            label[ids.len()..].fill(IGNORED);
            *length = ids.len() as i64;
            plan.check_ids(&label[..ids.len()], row)?;
            let words = key.words_from(sample_ids.get(row), 0);
            scratch.choose(&plan, &label[..ids.len()], words);
            for group in scratch.positions.chunks(LANES) {
                let mut places = [0; LANES];
                for (place, position) in places.iter_mut().zip(group) {
                    *place = position + 1;
                }
                let first = key.words_at(sample_ids.get(row), places);
                for (lane, position) in group.iter().enumerate() {
                    let first = first.map(|word| word[lane]);
                    let words = key.words_known(sample_ids.get(row), places[lane], first);
                    let slot = &mut input[*position as usize];
                    *slot = plan.replacement(words, *slot);
                    positions.push((row * width) as i64 + i64::from(*position));
                }
            }
        }
        Ok(())
    })?;
    Ok(positions.concat())
}

/// Memory that the rows of a thread share.
#[derive(Default)]
struct Scratch {
    chosen: Chosen,
    special: Vec<bool>,
    eligible: Vec<u32>,
    positions: Vec<u32>,
}

impl Scratch {
    /// Chooses the masked positions of one row, ascending.
    fn choose(&mut self, plan: &Plan, ids: &[i64], mut words: Words) {
        plan.mark_special(ids, &mut self.special);
        // One slot more than tokens: the write is unconditional, only its place depends on the id.
        self.eligible.resize(ids.len() + 1, 0);
        let mut count = 0;
        for (position, special) in self.special.iter().enumerate() {
            self.eligible[count] = position as u32;
            count += usize::from(!special);
        }
        let uniform = f64::from(words.next_u32()) / 4_294_967_296.0;
        let masked = (plan.probability * count as f64 + uniform).floor() as usize;
        self.chosen.draw(&mut words, masked.min(count), count);
        self.positions.clear();
        self.positions.extend(self.chosen.items().map(|item| self.eligible[item]));
    }
}
