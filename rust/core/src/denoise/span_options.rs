//! Options of [`super::corrupt_spans`].

use super::denoiser::Denoiser;
use crate::{Error, Result, memory};

/// The sentinels of a vocabulary: consecutive ids.
#[derive(Clone, Copy, Debug)]
pub struct Sentinels {
    /// Id of the first.
    pub first: i64,
    /// The difference between one and the next: 1 or -1.
    pub step: i64,
    /// Number of sentinels.
    pub count: usize,
    /// Whether a row with more spans than that keeps its last spans, instead of being refused.
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
    /// The tasks, of which every row gets one.
    pub denoisers: Vec<Denoiser>,
    /// Their weights in every phase of training; those of a phase are divided by their sum.
    pub weights: Vec<Vec<f64>>,
    /// The sentinels.
    pub sentinels: Sentinels,
    /// Id that ends the inputs, if any.
    pub input_end: Option<i64>,
    /// Id that ends the targets, if any.
    pub target_end: Option<i64>,
    /// Ids are from 0 up to, but not including, this; without it, up to the limit of the output's
    /// type.
    pub vocab_size: Option<i64>,
    /// Id that fills short rows.
    pub pad: i64,
    /// Id that starts the decoder's inputs.
    pub decoder_start: i64,
    /// Whether each id starts a word; without it, every token is a word.
    pub word_starts: Option<Vec<bool>>,
    /// Ids that are never noise, ascending.
    pub special: Vec<i64>,
    /// Largest number of ids in a row of the inputs, including its end: longer rows are cut before it.
    pub longest_input: Option<usize>,
    /// The same for the targets.
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

    /// For every phase: a word below `shares[i]`, but not below `shares[i - 1]`, chooses denoiser `i`.
    pub(super) fn shares(&self) -> Result<Vec<Vec<u64>>> {
        if self.weights.is_empty() {
            return Err(Error::argument("weights", "empty", "the weights of at least one phase"));
        }
        let mut shares = memory::with_room(self.weights.len())?;
        for weights in &self.weights {
            shares.push(self.shares_of(weights)?);
        }
        Ok(shares)
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
        let mut shares = memory::collect(weights.iter().map(|weight| {
            before += weight / sum;
            (before * 4_294_967_296.0) as u64
        }))?;
        // Rounding must not leave words without a denoiser, or give them one of weight 0.
        let last = weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0);
        for share in &mut shares[last..] {
            *share = 1 << 32;
        }
        Ok(shares)
    }
}
