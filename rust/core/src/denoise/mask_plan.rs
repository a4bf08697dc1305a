//! The options of METRO's masks, checked and turned into integers.

use super::draws::Bound;
use super::masking::{Count, Masking};
use super::span_lengths::SpanLengths;
use crate::tokens::Token;
use crate::{Error, Result, memory};

/// The options, checked and turned into integers.
pub(super) struct Plan<'a> {
    pub(super) how_many: Count,
    pub(super) probability: f64,
    pub(super) span_lengths: Option<&'a SpanLengths>,
    pub(super) word_starts: Option<&'a [bool]>,
    pub(super) mask_below: u64,
    pub(super) random_below: u64,
    pub(super) mask_token: i64,
    pub(super) pad: i64,
    pub(super) random_bound: Bound,
    pub(super) random_count: u32,
    most: usize,
    mean_length: f64,
    vocab_size: i64,
    /// The first id that is not special, and the id after the last one.
    ordinary: (i64, i64),
    /// Special ids between those, as maximal runs (first, last), ascending.
    special_runs: Vec<(i64, i64)>,
    random_start: i64,
    /// For each run of special ids in the random range, the number of ordinary ids before it and the
    /// number of its special ids.
    gaps: Vec<(u32, u32)>,
}

impl Masking {
    /// Checks every option against its domain.
    ///
    /// # Errors
    /// The first option outside its domain.
    pub fn check(&self) -> Result<()> {
        Plan::new(self, i64::MAX).map(|_| ())
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(options: &'a Masking, largest: i64) -> Result<Self> {
        options.check_shares()?;
        let mean_length = options.check_lengths()?;
        options.check_ids(largest)?;
        let vocab_size = options.vocab_size;
        let (start, end) = options.random_range;
        let mut special = memory::copied(&options.special)?;
        special.sort_unstable();
        special.dedup();
        let mut special_runs = runs(&special)?;
        let (gaps, skipped) = gaps(&special_runs, start, end)?;
        let random_count = (end - start) as u32 - skipped;
        if random_count == 0 && options.random > 0.0 {
            return Err(Error::argument(
                "random_token_range",
                format!("({start}, {end})"),
                "a range with at least one id that is not special",
            ));
        }
        let mut ordinary = (0, vocab_size);
        if let Some((_, last)) = special_runs.first().filter(|(first, _)| *first == 0) {
            ordinary.0 = last + 1;
            special_runs.remove(0);
        }
        if let Some((first, _)) = special_runs.last().filter(|(_, last)| *last == vocab_size - 1) {
            ordinary.1 = *first;
            special_runs.pop();
        }
        // Multiplication by 2^32 is exact, so the thresholds are the shares rounded down to 2^-32.
        let below = |share: f64| (share * 4_294_967_296.0) as u64;
        Ok(Self {
            how_many: options.how_many,
            probability: options.probability,
            span_lengths: options.span_lengths.as_ref().map(|(lengths, _)| lengths),
            word_starts: options.word_starts.as_deref(),
            mask_below: below(options.replace),
            random_below: below(options.replace + options.random),
            mask_token: options.mask_token,
            pad: options.pad,
            random_bound: Bound::new(random_count.max(1)),
            random_count,
            most: options.most.unwrap_or(usize::MAX),
            mean_length,
            vocab_size,
            ordinary,
            special_runs,
            random_start: start,
            gaps,
        })
    }

    /// The number of draws from a row of `units`, tokens or words, of which `eligible` may be masked.
    pub(super) fn count(&self, eligible: usize, units: usize, uniform: f64) -> usize {
        let drawn = match self.how_many {
            Count::Metro => self.probability * eligible as f64 / self.mean_length + uniform,
            Count::Electra => (self.probability * units as f64).round_ties_even().max(1.0),
        };
        (drawn.floor() as usize).min(self.most)
    }

    /// Marks special tokens, and ids outside the vocabulary, by a byte of 1.
    #[inline(always)]
    pub(super) fn mark_special<T: Token>(&self, ids: &[T], special: &mut Vec<u8>) {
        special.resize(ids.len(), 0);
        T::mark_outside(ids, self.ordinary.0, self.ordinary.1, special);
        for (first, last) in &self.special_runs {
            for (special, id) in special.iter_mut().zip(ids) {
                let id = id.widen();
                *special |= u8::from(*first <= id && id <= *last);
            }
        }
    }

    /// Refuses an id outside the vocabulary.
    #[inline(always)]
    pub(super) fn check_ids<T: Token>(&self, ids: &[T], row: usize) -> Result<()> {
        if T::all_within(ids, 0, self.vocab_size) {
            return Ok(());
        }
        let bad = |id: i64| !(0..self.vocab_size).contains(&id);
        let column = ids.iter().position(|id| bad(id.widen())).unwrap_or(0);
        Err(Error::Shape(format!(
            "ids has {} at row {row}, column {column}, expected an id below vocab_size {}",
            ids[column].widen(),
            self.vocab_size
        )))
    }

    /// The ordinary id with this rank in the random range.
    #[inline(always)]
    pub(super) fn random_id(&self, rank: u32) -> i64 {
        let skipped = self.gaps.iter().map(|(gap, ids)| if *gap <= rank { *ids } else { 0 });
        self.random_start + i64::from(rank) + i64::from(skipped.sum::<u32>())
    }
}

/// Ascending ids as maximal runs (first, last).
fn runs(ids: &[i64]) -> Result<Vec<(i64, i64)>> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *id => *last = *id,
            _ => memory::push(&mut runs, (*id, *id))?,
        }
    }
    Ok(runs)
}

/// For each run of special ids in `start..end`, the number of ordinary ids before it and its length;
/// and the sum of the lengths.
fn gaps(runs: &[(i64, i64)], start: i64, end: i64) -> Result<(Vec<(u32, u32)>, u32)> {
    let (mut gaps, mut skipped) = (memory::with_room(runs.len())?, 0);
    for (first, last) in runs {
        let (first, last) = ((*first).max(start), (*last).min(end - 1));
        if first <= last {
            gaps.push(((first - start) as u32 - skipped, (last - first + 1) as u32));
            skipped += (last - first + 1) as u32;
        }
    }
    Ok((gaps, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Masking {
        Masking {
            how_many: Count::Metro,
            most: None,
            span_lengths: None,
            word_starts: None,
            probability: 0.5,
            replace: 0.0,
            random: 1.0,
            mask_token: 3,
            vocab_size: 10,
            special: vec![9, 0, 3, 1, 5, 3],
            random_range: (0, 10),
            pad: 0,
        }
    }

    #[test]
    fn ranks_are_the_ordinary_ids_in_turn() {
        let whole = options();
        let plan = Plan::new(&whole, i64::MAX).unwrap();
        assert_eq!((plan.ordinary, &plan.special_runs[..]), ((2, 9), &[(3, 3), (5, 5)][..]));
        assert_eq!(plan.random_count, 5);
        assert_eq!([0, 1, 2, 3, 4].map(|rank| plan.random_id(rank)), [2, 4, 6, 7, 8]);
        let part = Masking { random_range: (1, 5), ..options() };
        let plan = Plan::new(&part, i64::MAX).unwrap();
        assert_eq!((plan.random_count, plan.random_id(0), plan.random_id(1)), (2, 2, 4));
    }

    #[test]
    fn options_outside_their_domain_are_named() {
        type Change = fn(&mut Masking);
        let cases: [(Change, &str); 9] = [
            (|o| o.probability = f64::NAN, "mlm_probability"),
            (|o| o.replace = -0.1, "mask_replace_prob"),
            (|o| o.replace = 0.5, "mask_replace_prob + random_replace_prob"),
            (|o| o.vocab_size = 0, "vocab_size"),
            (|o| o.mask_token = 10, "mask_token_id"),
            (|o| o.pad = -1, "pad_token_id"),
            (|o| o.special.push(10), "special_token_ids"),
            (|o| o.random_range = (4, 11), "random_token_range"),
            (|o| o.random_range = (0, 2), "random_token_range"),
        ];
        for (change, name) in cases {
            let mut options = options();
            change(&mut options);
            let message = Plan::new(&options, i64::MAX).err().expect(name).to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }
}
