//! T5 span corruption: `random_spans_noise_mask` and unique sentinels.
//!
//! The law is that of google-research/text-to-text-transfer-transformer,
//! `t5/data/preprocessors.py`, with two repairs: the number of spans is at most the number of kept
//! tokens (upstream fails there), and more spans than sentinels is an error (upstream emits
//! ordinary vocabulary ids).

use super::IGNORED;
use super::choose::Chosen;
use super::span_plan::{SpanCorruption, SpanCounts, span_widths};
use crate::rng::{Key, Words};
use crate::threads::for_each;
use crate::tokens::{Rows, SampleIds, Token};
use crate::{Error, Result};

/// Where [`corrupt_spans`] writes; the widths are `input_ids.len() / rows` and `labels.len() / rows`.
#[derive(Debug)]
pub struct SpanOutput<'a> {
    /// Corrupted rows, `[rows, width]`, padded with the pad id.
    pub input_ids: &'a mut [i64],
    /// Targets, `[rows, width]`, padded with -100.
    pub labels: &'a mut [i64],
    /// Ids of every row of `input_ids` before its padding.
    pub input_lengths: &'a mut [i64],
    /// Ids of every row of `labels` before its padding.
    pub label_lengths: &'a mut [i64],
}

/// Corrupts every row: kept runs with a sentinel for each noise span, and the spans as target.
///
/// # Errors
/// An option outside its domain, an output of the wrong size, a negative id, or an id that is a
/// sentinel: the message names row and column.
pub fn corrupt_spans<T: Token>(
    rows: &Rows<T>,
    sample_ids: &SampleIds,
    options: &SpanCorruption,
    key: Key,
    num_threads: usize,
    output: SpanOutput,
) -> Result<()> {
    let needed = span_widths(rows, options)?;
    let count = rows.count();
    let widths = (output.input_ids.len() / count, output.labels.len() / count);
    if output.input_ids.len() != widths.0 * count
        || output.labels.len() != widths.1 * count
        || output.input_lengths.len() != count
        || output.label_lengths.len() != count
    {
        return Err(Error::Shape(format!("out does not hold {count} rows of equal width")));
    }
    if widths.0 < needed.0 || widths.1 < needed.1 {
        return Err(Error::Shape(format!(
            "out has widths {} and {}, expected at least {} for input_ids and {} for labels",
            widths.0, widths.1, needed.0, needed.1
        )));
    }
    let share = count.div_ceil(num_threads.max(1));
    let shares = output
        .input_ids
        .chunks_mut(share * widths.0)
        .zip(output.labels.chunks_mut(share * widths.1))
        .zip(output.input_lengths.chunks_mut(share).zip(output.label_lengths.chunks_mut(share)))
        .enumerate()
        .collect();
    for_each(num_threads, shares, |(index, ((inputs, labels), (input_lengths, label_lengths)))| {
        let mut scratch = Scratch::default();
        let outputs = inputs.chunks_exact_mut(widths.0).zip(labels.chunks_exact_mut(widths.1));
        let lengths = input_lengths.iter_mut().zip(label_lengths);
        for (offset, ((input, label), (input_length, label_length))) in
            outputs.zip(lengths).enumerate()
        {
            let row = index * share + offset;
            let ids = rows.row(row);
            check_ids(ids, row, options)?;
            let counts = options.counts(ids.len());
            let mut words = key.words_from(sample_ids.get(row), 0);
            scratch.plan(&mut words, counts);
            scratch.write(ids, options, input, label);
            *input_length = counts.input_length() as i64;
            *label_length = counts.label_length() as i64;
            input[counts.input_length()..].fill(options.pad);
            label[counts.label_length()..].fill(IGNORED);
        }
        Ok(())
    })
}

/// Refuses ids that the target could not tell apart from its own sentinels.
fn check_ids<T: Token>(ids: &[T], row: usize, options: &SpanCorruption) -> Result<()> {
    let (lowest, highest) = options.sentinel_range();
    let bad = |id: i64| id < 0 || (lowest <= id && id <= highest);
    // No early exit, so that the loop is one vector comparison after another.
    if !ids.iter().fold(false, |any, id| any | bad(id.widen())) {
        return Ok(());
    }
    let column = ids.iter().position(|id| bad(id.widen())).unwrap_or(0);
    let id = ids[column].widen();
    Err(Error::Shape(if id < 0 {
        format!("ids has {id} at row {row}, column {column}, expected 0 or more")
    } else {
        format!(
            "ids has {id} at row {row}, column {column}, which is one of the sentinels \
             {lowest} to {highest}: a text must not hold them"
        )
    }))
}

/// The plan of one row, in memory that the rows of a thread share.
#[derive(Default)]
struct Scratch {
    chosen: Chosen,
    noise: Vec<u32>,
    keep: Vec<u32>,
}

impl Scratch {
    /// Draws the lengths of the noise spans, then those of the kept runs between them.
    fn plan(&mut self, words: &mut Words, counts: SpanCounts) {
        compose(words, counts.noise, counts.spans, &mut self.chosen, &mut self.noise);
        compose(
            words,
            counts.length - counts.noise,
            counts.spans,
            &mut self.chosen,
            &mut self.keep,
        );
    }

    /// Writes one row and its target; kept runs come first, so a row always ends in noise.
    fn write<T: Token>(
        &self,
        ids: &[T],
        options: &SpanCorruption,
        input: &mut [i64],
        label: &mut [i64],
    ) {
        let (mut source, mut i, mut l) = (0, 0, 0);
        let mut sentinel = options.sentinel_first;
        for (keep, noise) in self.keep.iter().zip(&self.noise) {
            let (keep, noise) = (*keep as usize, *noise as usize);
            copy_run(&ids[source..], &mut input[i..], keep);
            source += keep;
            input[i + keep] = sentinel;
            i += keep + 1;
            label[l] = sentinel;
            copy_run(&ids[source..], &mut label[l + 1..], noise);
            source += noise;
            l += noise + 1;
            sentinel += options.sentinel_step;
        }
        if self.noise.is_empty() {
            copy_run(ids, input, ids.len());
            i = ids.len();
            label[0] = sentinel;
            l = 1;
        }
        input[i] = options.eos;
        label[l] = options.eos;
    }
}

/// Lengths of `parts` non-empty parts of `total`, every composition equally likely.
fn compose(
    words: &mut Words,
    total: usize,
    parts: usize,
    chosen: &mut Chosen,
    lengths: &mut Vec<u32>,
) {
    lengths.clear();
    if parts == 0 {
        return;
    }
    chosen.draw(words, parts - 1, total - 1);
    let mut previous = 0;
    for breakpoint in chosen.items() {
        lengths.push((breakpoint + 1 - previous) as u32);
        previous = breakpoint + 1;
    }
    lengths.push((total - previous) as u32);
}

/// Ids that a run is copied by.
const BLOCK: usize = 8;

/// Copies the first `length` ids, in whole blocks where there is room for them: what is written past
/// the run is written over by what follows it in the row.
fn copy_run<T: Token>(ids: &[T], out: &mut [i64], length: usize) {
    let whole = length.next_multiple_of(BLOCK);
    if whole <= ids.len() && whole <= out.len() {
        let (from, to) = (ids[..whole].as_chunks::<BLOCK>().0, out[..whole].as_chunks_mut().0);
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.map(Token::widen);
        }
    } else {
        for (to, from) in out[..length].iter_mut().zip(&ids[..length]) {
            *to = from.widen();
        }
    }
}
