//! Span corruption of a batch: T5's, and its relatives.
//!
//! The default is the rule of google-research/text-to-text-transfer-transformer,
//! `t5/data/preprocessors.py`, with two corrections: the number of spans is at most the number of
//! kept tokens (upstream fails there), and more spans than sentinels are an error (upstream emits
//! ordinary vocabulary ids). docs/denoising.md is the specification.

use super::IGNORED;
use super::layout::{write_inputs, write_targets};
use super::span_options::SpanCorruption;
use super::span_plan::{Share, SpanPlan};
use crate::simd::{Job, Lanes, Level};
use crate::threads::for_each;
use crate::tokens::{Id, Rows, Token};
use crate::{Error, Result, memory};

/// The arrays that [`corrupt_spans`] writes, `[rows, width]` each; the widths follow from the sizes.
#[derive(Debug)]
pub struct SpanOutput<'a, O> {
    /// Corrupted rows, padded with the pad id.
    pub input_ids: &'a mut [O],
    /// Targets, padded with -100.
    pub labels: &'a mut [O],
    /// 1 for the ids of a corrupted row, 0 for its padding; as wide as the inputs.
    pub attention_mask: Option<&'a mut [O]>,
    /// Targets shifted right by one after the start id, padded with the pad id.
    pub decoder_input_ids: Option<&'a mut [O]>,
    /// Number of ids in every row of `input_ids` before its padding.
    pub input_lengths: &'a mut [i64],
    /// Number of ids in every row of `labels` before its padding.
    pub label_lengths: &'a mut [i64],
    /// Index of every row's denoiser.
    pub denoisers: &'a mut [i64],
}

/// Writes a planned batch.
///
/// # Errors
/// An output of the wrong size.
pub fn corrupt_spans<T: Token, O: Id>(
    rows: &Rows<T>,
    options: &SpanCorruption,
    plan: &SpanPlan,
    level: Level,
    num_threads: usize,
    output: SpanOutput<O>,
) -> Result<()> {
    let count = rows.count();
    let widths = (output.input_ids.len() / count, output.labels.len() / count);
    let other = |array: &Option<&mut [O]>, size| array.as_ref().is_some_and(|a| a.len() != size);
    if output.input_ids.len() != widths.0 * count
        || output.labels.len() != widths.1 * count
        || other(&output.attention_mask, output.input_ids.len())
        || other(&output.decoder_input_ids, output.labels.len())
        || [&output.input_lengths, &output.label_lengths, &output.denoisers]
            .iter()
            .any(|array| array.len() != count)
    {
        return Err(Error::Shape(format!("out does not hold {count} rows of equal width")));
    }
    if widths.0 < plan.widths.0 || widths.1 < plan.widths.1 {
        return Err(Error::Shape(format!(
            "out has widths {} and {}, expected at least {} for input_ids and {} for labels",
            widths.0, widths.1, plan.widths.0, plan.widths.1
        )));
    }
    let each = plan.rows_each;
    // If nothing is kept, or nothing is hidden, and there is no EOS, a side has no ids at all.
    let sizes = ((each * widths.0).max(1), (each * widths.1).max(1));
    let mut masks = output.attention_mask.map(|mask| mask.chunks_mut(sizes.0));
    let mut decoders = output.decoder_input_ids.map(|ids| ids.chunks_mut(sizes.1));
    let mut inputs = output.input_ids.chunks_mut(sizes.0);
    let mut labels = output.labels.chunks_mut(sizes.1);
    let mut input_lengths = output.input_lengths.chunks_mut(each);
    let mut label_lengths = output.label_lengths.chunks_mut(each);
    let mut denoisers = output.denoisers.chunks_mut(each);
    let mut writers = memory::with_room(plan.shares.len())?;
    for (index, share) in plan.shares.iter().enumerate() {
        writers.push(Writer {
            rows,
            options,
            share,
            first: index * each,
            widths,
            inputs: inputs.next().unwrap_or_default(),
            labels: labels.next().unwrap_or_default(),
            mask: masks.as_mut().and_then(Iterator::next),
            decoder: decoders.as_mut().and_then(Iterator::next),
            input_lengths: input_lengths.next().unwrap_or_default(),
            label_lengths: label_lengths.next().unwrap_or_default(),
            denoisers: denoisers.next().unwrap_or_default(),
        });
    }
    for_each(num_threads, writers, |writer| level.run(writer))
}

struct Writer<'a, 'b, T, O> {
    rows: &'a Rows<'b, T>,
    options: &'a SpanCorruption,
    share: &'a Share,
    first: usize,
    widths: (usize, usize),
    inputs: &'a mut [O],
    labels: &'a mut [O],
    mask: Option<&'a mut [O]>,
    decoder: Option<&'a mut [O]>,
    input_lengths: &'a mut [i64],
    label_lengths: &'a mut [i64],
    denoisers: &'a mut [i64],
}

impl<T: Token, O: Id> Job for Writer<'_, '_, T, O> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(mut self) -> Result<()> {
        let options = self.options;
        let (pad, ignored) = (O::from_i64(options.pad), O::from_i64(IGNORED));
        let mut long = Vec::new();
        if options.longest_input.is_some() || options.longest_target.is_some() {
            memory::grow(&mut long, cut_room(self.rows.longest()))?;
        }
        for place in 0..self.share.len() {
            let row = self.share.row(place);
            let denoiser = &options.denoisers[row.denoiser];
            let (ids, length) = self.rows.from_row(self.first + place);
            let (start, width) = (place * self.widths.0, self.widths.0);
            let out = &mut self.inputs[start..];
            if options.longest_input == Some(row.input_length) {
                cut(&mut long, &mut out[..row.input_length], options.input_end, length, |long| {
                    write_inputs::<L, T, O>(ids, &row, denoiser, options, long)
                });
            } else {
                write_inputs::<L, T, O>(ids, &row, denoiser, options, out);
            }
            out[row.input_length..width].fill(pad);
            if let Some(mask) = &mut self.mask {
                let mask = &mut mask[start..][..width];
                mask[..row.input_length].fill(O::from_i64(1));
                mask[row.input_length..].fill(O::from_i64(0));
            }
            let (start, width) = (place * self.widths.1, self.widths.1);
            let out = &mut self.labels[start..];
            if options.longest_target == Some(row.target_length) {
                cut(&mut long, &mut out[..row.target_length], options.target_end, length, |long| {
                    write_targets::<L, T, O>(ids, length, &row, denoiser, options, long)
                });
            } else {
                write_targets::<L, T, O>(ids, length, &row, denoiser, options, out);
            }
            out[row.target_length..width].fill(ignored);
            if let Some(decoder) = &mut self.decoder {
                let decoder = &mut decoder[start..][..width];
                let shown = row.target_length.min(width - 1);
                decoder[0] = O::from_i64(options.decoder_start);
                decoder[1..=shown].copy_from_slice(&out[..shown]);
                decoder[shown + 1..].fill(pad);
            }
            self.input_lengths[place] = row.input_length as i64;
            self.label_lengths[place] = row.target_length as i64;
            self.denoisers[place] = row.denoiser as i64;
        }
        Ok(())
    }
}

/// The number of ids for which [`cut`] needs room: at most one sentinel for each token, a prefix, an
/// end, and one block of copies.
fn cut_room(length: usize) -> usize {
    2 * length + 128
}

/// Writes the first ids and the end of a row that is longer than its output, or just fits, through
/// other memory.
fn cut<O: Id>(
    long: &mut Vec<O>,
    out: &mut [O],
    end: Option<i64>,
    length: usize,
    write: impl FnOnce(&mut [O]) -> usize,
) {
    long.resize(cut_room(length), O::from_i64(0));
    let written = write(long);
    out.copy_from_slice(&long[..out.len()]);
    if let (Some(end), true) = (end, written > out.len()) {
        out[out.len() - 1] = O::from_i64(end);
    }
}
