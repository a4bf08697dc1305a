//! Ternarizes a group of tensors in three passes, each of which visits the tensors in the same
//! order.
//!
//! The passes keep only counts and sums and no entries, so the tensors may be passed one at a time.

use super::chunks::{CHUNK, Chunk, chunks, entries, not_finite, share_len, shares};
use super::passes::{Agreement, CountTies, Emit, Refine, Scan};
use super::rule::{Part, Rule, Ternary};
use super::select::{Decisive, LOW_BINS, MAGNITUDE, Selection, Table};
use crate::simd::Level;
use crate::{Error, Result, memory, threads};

/// The state of a group: call `scan` for all of its tensors, then `refine` for all, then `emit` for
/// all, and then `finish`.
pub struct Quantizer {
    rule: Rule,
    stage: Stage,
}

enum Stage {
    Scan(Sums),
    Refine(Statistics),
    Emit(Emission),
    /// A pass failed midway, so that its counts are those of a part of the entries.
    Broken,
}

/// The sums of the first pass.
#[derive(Default)]
struct Sums {
    tables: Vec<Table>,
    count: u64,
    total: f64,
}

/// The statistics of the second pass.
struct Statistics {
    count: u64,
    seen: u64,
    kept: u64,
    mean: f64,
    squares: f64,
    /// `None` if nothing is kept.
    decisive: Option<Decisive>,
    lower: Vec<u64>,
}

/// The state of the last pass.
struct Emission {
    count: u64,
    seen: u64,
    std: f64,
    kept: u64,
    selection: Option<Selection>,
    /// Number of ties that may still be kept.
    left: u64,
    nonzeros: u64,
    magnitudes: f64,
}

impl Quantizer {
    /// Starts a group that has not seen any tensors.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self { rule, stage: Stage::Scan(Sums::default()) }
    }

    /// First pass: counts the upper bits of magnitudes, sums the entries, and rejects NaN and
    /// infinity.
    ///
    /// # Errors
    /// [`Error::Argument`] if an entry is not finite; [`Error::Shape`] if the second pass has
    /// begun.
    pub fn scan(&mut self, parts: &[Part<'_>], level: Level, num_threads: usize) -> Result<()> {
        let Stage::Scan(state) = &mut self.stage else {
            return Err(out_of_order("scan", "the second pass has begun, or a pass failed"));
        };
        let chunks = chunks(parts)?;
        let shares = memory::collect(shares(&chunks, num_threads))?;
        if state.tables.len() < shares.len() {
            let missing = shares.len() - state.tables.len();
            memory::grow(&mut state.tables, missing)?;
            state.tables.resize_with(shares.len(), Table::default);
        }
        let mut sums = memory::zeros(chunks.len())?;
        let slots = sums.chunks_mut(share_len(chunks.len(), num_threads));
        let work = memory::collect(shares.into_iter().zip(&mut state.tables).zip(slots))?;
        let scanned = threads::for_each(
            num_threads,
            work,
            |((share, upper), sums): ((&[Chunk<'_>], &mut Table), &mut [f64])| {
                for (chunk, sum) in share.iter().zip(sums) {
                    let (found, finite) = level.run(Scan { values: chunk.values, upper })?;
                    if !finite {
                        return Err(not_finite(parts, chunk));
                    }
                    *sum = found;
                }
                Ok(())
            },
        );
        if let Err(error) = scanned {
            self.stage = Stage::Broken;
            return Err(error);
        }
        state.count += entries(parts);
        state.total = sums.iter().fold(state.total, |total, sum| total + sum);
        Ok(())
    }

    /// Second pass: sums the squared deviations, and counts the lower bits of magnitudes in the
    /// decisive bin.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last pass has begun.
    pub fn refine(&mut self, parts: &[Part<'_>], level: Level, num_threads: usize) -> Result<()> {
        if let Stage::Scan(sums) = &self.stage {
            self.stage = Stage::Refine(Statistics::after(sums, self.rule)?);
        }
        let Stage::Refine(state) = &mut self.stage else {
            return Err(out_of_order("refine", "the last pass has begun, or a pass failed"));
        };
        let chunks = chunks(parts)?;
        let mut squares = memory::zeros(chunks.len())?;
        let len = share_len(chunks.len(), num_threads);
        // No magnitude has the upper bits u32::MAX.
        let (mean, high) = (state.mean, state.decisive.map_or(u32::MAX, |found| found.high));
        let mut work = memory::with_room(chunks.len().div_ceil(len))?;
        for (share, squares) in shares(&chunks, num_threads).zip(squares.chunks_mut(len)) {
            work.push((share, squares, memory::zeros(LOW_BINS)?));
        }
        threads::for_each(num_threads, memory::collect(&mut work)?, |(share, squares, lower)| {
            for (chunk, square) in share.iter().zip(squares.iter_mut()) {
                *square = level.run(Refine { values: chunk.values, mean, high, lower });
            }
            Ok(())
        })?;
        for (_, _, lower) in &work {
            for (total, count) in state.lower.iter_mut().zip(lower) {
                *total += count;
            }
        }
        state.seen += entries(parts);
        state.squares = squares.iter().fold(state.squares, |total, square| total + square);
        Ok(())
    }

    /// Last pass: writes the trits of `parts[i]` to `outs[i]`, and returns how well they agree with
    /// each part.
    ///
    /// # Errors
    /// [`Error::Shape`] if the passes saw different numbers of entries, or `outs` do not have the
    /// lengths of `parts`; [`Error::Argument`] if the scale overflows.
    pub fn emit(
        &mut self,
        parts: &[Part<'_>],
        outs: Vec<&mut [i8]>,
        level: Level,
        num_threads: usize,
    ) -> Result<Vec<Agreement>> {
        if outs.len() != parts.len()
            || outs.iter().zip(parts).any(|(o, p)| o.len() != p.values.len())
        {
            return Err(Error::Shape(
                "the outputs for the trits do not have the lengths of the tensors".into(),
            ));
        }
        match &self.stage {
            Stage::Scan(_) => return Err(out_of_order("emit", "the second pass is missing")),
            Stage::Refine(statistics) => {
                self.stage = Stage::Emit(Emission::after(statistics, self.rule)?);
            }
            Stage::Emit(_) | Stage::Broken => {}
        }
        let Stage::Emit(state) = &mut self.stage else {
            return Err(out_of_order("emit", "a pass failed"));
        };
        let chunks = chunks(parts)?;
        let outs = outs.into_iter().flat_map(|out| out.chunks_mut(CHUNK));
        // Entries that are zero become zero trits even where they are selected.
        let threshold = state.selection.map_or(MAGNITUDE, |found| found.threshold.max(1));
        let mut found = memory::filled(chunks.len(), Agreement::default)?;
        let mut agreements = memory::filled(parts.len(), Agreement::default)?;
        if num_threads == 1 || chunks.len() < 2 {
            for ((chunk, out), found) in chunks.iter().zip(outs).zip(&mut found) {
                let (values, ties) = (chunk.values, state.left);
                let (here, used) = level.run(Emit { values, out, threshold, ties });
                *found = here;
                state.left -= used;
            }
        } else {
            let outs = memory::collect(outs)?;
            state.emit_apart(&chunks, outs, &mut found, threshold, level, num_threads)?;
        }
        for (chunk, found) in chunks.iter().zip(found) {
            agreements[chunk.part] += found;
            state.nonzeros += found.nonzeros;
            state.magnitudes += found.dot;
        }
        state.seen += entries(parts);
        Ok(agreements)
    }

    /// Ends the group and returns its scale.
    ///
    /// # Errors
    /// [`Error::Shape`] if a pass is missing or saw different entries; [`Error::Argument`] if the
    /// scale overflows.
    pub fn finish(self) -> Result<Ternary> {
        let Stage::Emit(Emission {
            count, seen, std, kept, selection, nonzeros, magnitudes, ..
        }) = self.stage
        else {
            return Err(out_of_order("finish", "a pass is missing"));
        };
        same_count(count, seen)?;
        // A threshold of 0 selects zeros, which do not count as nonzeros, so the check applies only
        // above it.
        if !self.rule.keeps_ties()
            && selection.is_some_and(|found| found.threshold > 0)
            && nonzeros != kept
        {
            return Err(Error::Shape(format!(
                "the last pass kept {nonzeros} entries, but the second pass selected {kept}: the \
                 tensors changed between the passes"
            )));
        }
        let scale = self.rule.scale(std, nonzeros, magnitudes)?;
        Ok(Ternary { scale, std, kept, nonzeros })
    }
}

impl Statistics {
    fn after(sums: &Sums, rule: Rule) -> Result<Self> {
        let kept = rule.kept(sums.count);
        let decisive = match kept {
            0 => None,
            _ => Some(Decisive::of(&Table::sum(&sums.tables)?, kept)),
        };
        Ok(Self {
            count: sums.count,
            seen: 0,
            kept,
            mean: sums.total / sums.count.max(1) as f64,
            squares: 0.0,
            decisive,
            lower: memory::zeros(LOW_BINS)?,
        })
    }

    /// The unbiased standard deviation; the magnitude of a single entry, and 0 without entries.
    fn std(&self) -> f64 {
        if self.count <= 1 {
            return self.mean.abs();
        }
        (self.squares / (self.count - 1) as f64).sqrt()
    }
}

impl Emission {
    fn after(statistics: &Statistics, rule: Rule) -> Result<Self> {
        same_count(statistics.count, statistics.seen)?;
        let std = statistics.std();
        if !rule.is_least_squares() {
            rule.scale(std, 0, 0.0)?;
        }
        let selection = statistics.decisive.map(|found| found.select(&statistics.lower));
        let left = match selection {
            Some(found) if found.threshold == 0 => u64::MAX,
            Some(found) if rule.keeps_ties() => found.ties_present,
            Some(found) => found.ties,
            None => 0,
        };
        let Statistics { count, kept, .. } = *statistics;
        Ok(Self { count, seen: 0, std, kept, selection, left, nonzeros: 0, magnitudes: 0.0 })
    }

    /// Writes the trits of all chunks in parallel.
    fn emit_apart(
        &mut self,
        chunks: &[Chunk<'_>],
        outs: Vec<&mut [i8]>,
        found: &mut [Agreement],
        threshold: u32,
        level: Level,
        num_threads: usize,
    ) -> Result<()> {
        let left = self.left;
        let allowed = self.share_ties(chunks, threshold, level, num_threads)?;
        let work = memory::collect(chunks.iter().zip(outs).zip(allowed).zip(found));
        let emitted = work.and_then(|work| {
            threads::for_each(num_threads, work, |(((chunk, out), ties), found)| {
                let values = chunk.values;
                *found = level.run(Emit { values, out, threshold, ties }).0;
                Ok(())
            })
        });
        if emitted.is_err() {
            // The pass may be repeated.
            self.left = left;
        }
        emitted
    }

    /// Decides how many ties each chunk may keep; ties at lower positions come first.
    fn share_ties(
        &mut self,
        chunks: &[Chunk<'_>],
        threshold: u32,
        level: Level,
        num_threads: usize,
    ) -> Result<Vec<u64>> {
        let mut present = memory::zeros::<u64>(chunks.len())?;
        let work = memory::collect(present.iter_mut().zip(chunks))?;
        threads::for_each(num_threads, work, |(slot, chunk): (&mut u64, &Chunk<'_>)| {
            *slot = level.run(CountTies { values: chunk.values, threshold });
            Ok(())
        })?;
        for slot in &mut present {
            *slot = self.left.min(*slot);
            self.left -= *slot;
        }
        Ok(present)
    }
}

fn same_count(first: u64, other: u64) -> Result<()> {
    if first == other {
        return Ok(());
    }
    Err(Error::Shape(format!(
        "a pass saw {other} entries, but the first pass saw {first}: every pass needs every tensor \
         exactly once"
    )))
}

fn out_of_order(call: &str, why: &str) -> Error {
    Error::Shape(format!(
        "{call} was called out of order ({why}): call scan for every tensor, then refine for every \
         tensor, then emit for every tensor"
    ))
}
