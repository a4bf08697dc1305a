//! The plan of a batch, made before anything is written: the runs of every row, and the widths.

use super::denoiser::{Denoiser, Inputs, Noise, Targets};
use super::draws::Draws;
use super::noise::Runs;
use super::span_checks::{check_ids, check_output_ids, check_phases};
use super::span_options::SpanCorruption;
use super::words_of_row::RowWords;
use crate::rng::{Key, Stream};
use crate::simd::{Job, Lanes, Level};
use crate::threads::for_each;
use crate::tokens::{Rows, SampleIds, Token};
use crate::{Error, Result, memory};

/// One row of a plan.
pub(super) struct PlannedRow<'a> {
    pub(super) denoiser: usize,
    /// Kept runs, one more than noise spans.
    pub(super) keep: &'a [u32],
    pub(super) noise: &'a [u32],
    pub(super) input_length: usize,
    pub(super) target_length: usize,
}

/// The rows that one thread plans and writes.
#[derive(Debug, Default)]
pub(super) struct Share {
    runs: Vec<u32>,
    rows: Vec<Head>,
    widths: (usize, usize),
}

#[derive(Debug)]
struct Head {
    denoiser: u32,
    spans: u32,
    /// Where the runs of the row start.
    start: usize,
    input_length: u32,
    target_length: u32,
}

impl Share {
    pub(super) fn row(&self, row: usize) -> PlannedRow<'_> {
        let head = &self.rows[row];
        let spans = head.spans as usize;
        let (keep, noise) = self.runs[head.start..][..=(2 * spans)].split_at(spans + 1);
        PlannedRow {
            denoiser: head.denoiser as usize,
            keep,
            noise,
            input_length: head.input_length as usize,
            target_length: head.target_length as usize,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// A planned batch.
#[derive(Debug)]
pub struct SpanPlan {
    pub(super) shares: Vec<Share>,
    /// Number of rows in every share but the last.
    pub(super) rows_each: usize,
    /// Widths of the inputs and of the targets, which hold every row.
    pub widths: (usize, usize),
}

/// How a batch is drawn: seed and epoch, and what the caller may decide instead.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// 0 to 2^63 - 1.
    pub seed: u64,
    /// 0 to 2^63 - 1.
    pub epoch: u64,
    /// One byte per token, which is not 0 if the token is noise; replaces the denoiser's draw.
    pub noise_mask: Option<&'a [u8]>,
    /// The phase of training of every row, which weights the denoisers.
    pub phases: Option<&'a [i64]>,
    /// Vector instructions to use.
    pub level: Level,
    /// Number of threads to use.
    pub num_threads: usize,
}

/// Draws the runs of every row.
///
/// # Errors
/// An option outside its domain, a row with more spans than sentinels, or an id that is negative,
/// a sentinel, or above `largest`: the message names row and column.
pub fn plan_spans<T: Token>(
    rows: &Rows<T>,
    sample_ids: &SampleIds,
    options: &SpanCorruption,
    draw: Draw,
    largest: i64,
) -> Result<SpanPlan> {
    options.check()?;
    let largest = options.vocab_size.map_or(largest, |size| largest.min(size - 1));
    check_output_ids(options, largest)?;
    let (count, longest) = (rows.count(), rows.longest());
    if longest >= 1 << 31 {
        return Err(Error::Shape(format!("a row has {longest} tokens, expected under 2^31")));
    }
    if draw.noise_mask.is_some_and(|mask| mask.len() != rows.tokens()) {
        return Err(Error::Shape(format!(
            "noise_mask has {} elements, expected the {} of ids",
            draw.noise_mask.unwrap_or_default().len(),
            rows.tokens()
        )));
    }
    check_phases(draw.phases, count, options.weights.len())?;
    let rows_each = count.div_ceil(draw.num_threads.max(1));
    let mut shares = memory::filled(count.div_ceil(rows_each), Share::default)?;
    let jobs = memory::collect(shares.iter_mut().enumerate())?;
    let choices = options.shares()?;
    for_each(draw.num_threads, jobs, |(index, share): (usize, &mut Share)| {
        let first = index * rows_each;
        let planner = Planner {
            rows,
            sample_ids,
            options,
            draw,
            largest,
            choices: &choices,
            range: first..count.min(first + rows_each),
            share,
        };
        draw.level.run(planner)
    })?;
    let widths = shares
        .iter()
        .fold((0, 0), |widths, share| (widths.0.max(share.widths.0), widths.1.max(share.widths.1)));
    Ok(SpanPlan { shares, rows_each, widths })
}

struct Planner<'a, 'b, T> {
    rows: &'a Rows<'b, T>,
    sample_ids: &'a SampleIds<'b>,
    options: &'a SpanCorruption,
    draw: Draw<'a>,
    largest: i64,
    choices: &'a [Vec<u64>],
    range: std::ops::Range<usize>,
    share: &'a mut Share,
}

impl<T: Token> Job for Planner<'_, '_, T> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Result<()> {
        let options = self.options;
        let mixture = Key::new(self.draw.seed, self.draw.epoch, Stream::Mixture);
        let mut draws = Draws::new(Key::new(self.draw.seed, self.draw.epoch, Stream::Spans));
        let mut runs = Runs::new();
        let mut words = RowWords::default();
        let mut mask = self.draw.noise_mask.map(|mask| &mask[self.rows.start(self.range.start)..]);
        memory::grow(&mut self.share.rows, self.range.len())?;
        let longest = self.rows.longest();
        let metro = options.denoisers.iter().any(|d| matches!(d.noise, Noise::MetroT0 { .. }));
        runs.reserve(longest, metro)?;
        let plain = options.special.is_empty() && options.word_starts.is_none();
        if !plain {
            words.reserve(longest)?;
        }
        for row in self.range.clone() {
            let ids = self.rows.row(row);
            check_ids(ids, row, options, self.largest)?;
            let sample_id = self.sample_ids.get(row);
            let chosen = self.choose(mixture, row, sample_id);
            let denoiser = &options.denoisers[chosen];
            let (numbers, sentinels) = (denoiser.numbers_spans(), &options.sentinels);
            let most = if numbers && sentinels.clamp { sentinels.count } else { usize::MAX };
            if let Some(rest) = mask {
                let (of_row, later) = rest.split_at(ids.len());
                mask = Some(later);
                runs.take::<L>(of_row, most);
            } else {
                draws.start(sample_id);
                if plain {
                    runs.draw::<L>(&denoiser.noise, &mut draws, ids.len(), None, most);
                } else {
                    words.read(ids, options.word_starts.as_deref(), &options.special);
                    let special = (!options.special.is_empty()).then_some(&words.special[..]);
                    runs.draw::<L>(&denoiser.noise, &mut draws, words.count(), special, most);
                    widen(&words, &mut runs);
                }
            }
            let spans = runs.noise.len();
            if numbers && spans > sentinels.count {
                return Err(too_few_sentinels(row, ids.len(), spans, sentinels.count));
            }
            let (input_length, target_length) = lengths(denoiser, options, ids.len(), &runs);
            self.share.widths.0 = self.share.widths.0.max(input_length);
            self.share.widths.1 = self.share.widths.1.max(target_length);
            self.share.rows.push(Head {
                denoiser: chosen as u32,
                spans: spans as u32,
                start: self.share.runs.len(),
                input_length: input_length as u32,
                target_length: target_length as u32,
            });
            memory::grow(&mut self.share.runs, runs.keep.len() + runs.noise.len())?;
            self.share.runs.extend_from_slice(&runs.keep);
            self.share.runs.extend_from_slice(&runs.noise);
        }
        Ok(())
    }
}

impl<T> Planner<'_, '_, T> {
    /// The index of a row's denoiser.
    #[inline(always)]
    fn choose(&self, mixture: Key, row: usize, sample_id: u64) -> usize {
        let choices = &self.choices[self.draw.phases.map_or(0, |phases| phases[row] as usize)];
        if choices.len() == 1 {
            return 0;
        }
        let word = u64::from(mixture.words(sample_id, 0, 0)[0]);
        choices.partition_point(|end| *end <= word)
    }
}

#[cold]
fn too_few_sentinels(row: usize, tokens: usize, spans: usize, count: usize) -> Error {
    Error::Shape(format!(
        "row {row} of {tokens} tokens needs {spans} sentinels, but num_sentinels is {count}: use \
         shorter rows, longer spans, a vocabulary with more sentinels, or \
         on_sentinel_shortage=\"clamp\""
    ))
}

/// Numbers of ids in the inputs and targets of a row, including their ends.
#[inline(always)]
fn lengths(
    denoiser: &Denoiser,
    options: &SpanCorruption,
    length: usize,
    runs: &Runs,
) -> (usize, usize) {
    let spans = runs.noise.len();
    let noise: usize = runs.noise.iter().map(|run| *run as usize).sum();
    let marks = match denoiser.inputs {
        Inputs::UniqueSentinels | Inputs::OneSentinel => spans,
        Inputs::SentinelPerToken => noise,
        Inputs::Drop => 0,
    };
    let head = usize::from(denoiser.prefix.is_some());
    let inputs = head + length - noise + marks + usize::from(options.input_end.is_some());
    let targets = match denoiser.targets {
        // A row without noise still has the first sentinel, as in T5.
        Targets::UniqueSentinels => noise + spans.max(usize::from(unended(denoiser))),
        Targets::Drop => noise,
        Targets::Whole => length,
    } + usize::from(options.target_end.is_some());
    (
        inputs.min(options.longest_input.unwrap_or(usize::MAX)),
        targets.min(options.longest_target.unwrap_or(usize::MAX)),
    )
}

/// Whether a row without noise has the first sentinel as its target. METRO-T0's has only its end.
pub(super) fn unended(denoiser: &Denoiser) -> bool {
    !matches!(denoiser.noise, Noise::MetroT0 { .. })
}

/// Turns runs of words into runs of tokens.
fn widen(words: &RowWords, runs: &mut Runs) {
    let mut word = 0;
    let mut tokens = |run: &mut u32| {
        let start = words.starts[word];
        word += *run as usize;
        *run = words.starts[word] - start;
    };
    for (keep, noise) in runs.keep.iter_mut().zip(&mut runs.noise) {
        tokens(keep);
        tokens(noise);
    }
    if let Some(last) = runs.keep.last_mut() {
        tokens(last);
    }
}
