//! Options of [`super::corrupt_spans`].

use super::denoiser::Denoiser;
use crate::{Error, Result};

/// The sentinels of a vocabulary: consecutive ids.
#[derive(Clone, Copy, Debug)]
pub struct Sentinels {
    /// Id of the first.
    pub first: i64,
    /// What leads from one to the next: 1 or -1.
    pub step: i64,
    /// How many there are.
    pub count: usize,
    /// Where a row has more spans than that: keep its last spans, and do not refuse it.
    pub clamp: bool,
}

impl Sentinels {
    /// Lowest and highest id.
    pub(super) fn range(&self) -> (i64, i64) {
        let last = self.first + self.step * (self.count as i64 - 1);
        (self.first.min(last), self.first.max(last))
    }
}

/// Options of [`super::corrupt_spans`].
#[derive(Clone, Debug)]
pub struct SpanCorruption {
    /// The tasks, one of which every row is given.
    pub denoisers: Vec<Denoiser>,
    /// Their weights in every phase of training; each phase is divided by its sum.
    pub weights: Vec<Vec<f64>>,
    /// The sentinels.
    pub sentinels: Sentinels,
    /// Id that ends the inputs, if any.
    pub input_end: Option<i64>,
    /// Id that ends the targets, if any.
    pub target_end: Option<i64>,
    /// Ids run from 0 up to, but not including, this; without it, as far as the output's type.
    pub vocab_size: Option<i64>,
    /// Id that fills short rows.
    pub pad: i64,
    /// Id that starts the decoder's inputs.
    pub decoder_start: i64,
    /// Whether an id starts a word, by id; without it every token is a word.
    pub word_starts: Option<Vec<bool>>,
    /// Ids that are never noise, ascending.
    pub special: Vec<i64>,
    /// Most ids of a row of the inputs, its end included: longer rows are cut before their end.
    pub longest_input: Option<usize>,
    /// The same of the targets.
    pub longest_target: Option<usize>,
}

impl SpanCorruption {
    /// Checks every option against its domain.
    ///
    /// # Errors
    /// The first option outside its domain.
    pub fn check(&self) -> Result<()> {
        let sentinels = &self.sentinels;
        if sentinels.step.abs() != 1 {
            return Err(Error::argument("sentinel_step", sentinels.step, "1 or -1"));
        }
        if sentinels.count == 0 || sentinels.count > 1 << 31 {
            return Err(Error::argument("num_sentinels", sentinels.count, "1 to 2^31"));
        }
        for (name, id) in [
            ("sentinel_first", Some(sentinels.first)),
            ("eos_token_id", self.input_end),
            ("target_end_token_id", self.target_end),
            ("pad_token_id", Some(self.pad)),
            ("decoder_start_token_id", Some(self.decoder_start)),
        ] {
            if id.is_some_and(|id| !(0..1 << 62).contains(&id)) {
                let id = id.unwrap_or_default();
                return Err(Error::argument(name, id, "a token id, 0 or more"));
            }
        }
        if sentinels.range().0 < 0 {
            return Err(Error::argument(
                "num_sentinels",
                sentinels.count,
                format!(
                    "at most the {} ids from sentinel_first {} down to 0",
                    sentinels.first + 1,
                    sentinels.first
                ),
            ));
        }
        for (name, longest) in
            [("max_input_length", self.longest_input), ("max_target_length", self.longest_target)]
        {
            if longest.is_some_and(|longest| longest < 2) {
                return Err(Error::argument(name, longest.unwrap_or_default(), "2 ids or more"));
            }
        }
        if self.denoisers.is_empty() || self.denoisers.len() > 1 << 16 {
            return Err(Error::argument("denoisers", self.denoisers.len(), "1 to 2^16 of them"));
        }
        self.denoisers.iter().try_for_each(Denoiser::check)?;
        self.shares().map(|_| ())
    }

    /// Of every phase: the words below `shares[i]`, and not below the one before, choose denoiser `i`.
    pub(super) fn shares(&self) -> Result<Vec<Vec<u64>>> {
        if self.weights.is_empty() {
            return Err(Error::argument("weights", "of 0 phases", "at least one"));
        }
        self.weights.iter().map(|weights| self.shares_of(weights)).collect()
    }

    fn shares_of(&self, weights: &[f64]) -> Result<Vec<u64>> {
        let sum: f64 = weights.iter().sum();
        let fine = weights.iter().all(|weight| *weight >= 0.0) && sum > 0.0 && sum.is_finite();
        if !fine || weights.len() != self.denoisers.len() {
            return Err(Error::argument(
                "weights",
                format!("{weights:?}"),
                format!("{} numbers, none negative, not all 0", self.denoisers.len()),
            ));
        }
        let mut before = 0.0;
        let mut shares: Vec<u64> = weights
            .iter()
            .map(|weight| {
                before += weight / sum;
                (before * 4_294_967_296.0) as u64
            })
            .collect();
        // Rounding must leave no word to nobody, and none to a weight of 0.
        let last = weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
        for share in &mut shares[last..] {
            *share = 1 << 32;
        }
        Ok(shares)
    }
}
