//! The options of [`super::mask_tokens`], and their domains.

use super::span_lengths::SpanLengths;
use crate::{Error, Result};

/// The rule for the number of tokens, or of whole words, that are drawn from a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// `floor(probability * eligible / mean length + U)`, without replacement: METRO-T0.
    Metro,
    /// `max(1, round(probability * (eligible + special)))`, with replacement: ELECTRA
    /// (`pretrain_helpers.mask`).
    Electra,
}

/// Options of [`super::mask_tokens`].
#[derive(Clone, Debug)]
pub struct Masking {
    /// The rule for the number of tokens that are drawn.
    pub how_many: Count,
    /// Largest number of draws in a row.
    pub most: Option<usize>,
    /// Distribution of the lengths of masked spans, from 0 on, with its mean; single tokens without
    /// it.
    pub span_lengths: Option<(SpanLengths, f64)>,
    /// Whether each id starts a word; if given, whole words are masked and counted.
    pub word_starts: Option<Vec<bool>>,
    /// Share of the eligible tokens that is masked, in `[0, 1]`.
    pub probability: f64,
    /// Share of the masked tokens that becomes the mask token.
    pub replace: f64,
    /// Share of the masked tokens that becomes a random token; the rest is kept.
    pub random: f64,
    /// Id of the mask token.
    pub mask_token: i64,
    /// Ids run from 0 up to, but not including, this.
    pub vocab_size: i64,
    /// Ids that are never masked and never drawn.
    pub special: Vec<i64>,
    /// Random tokens come from `start..end`, without the special ids.
    pub random_range: (i64, i64),
    /// Id that fills the inputs of short rows.
    pub pad: i64,
}

impl Masking {
    /// Checks the shares, which are from 0 to 1.
    pub(super) fn check_shares(&self) -> Result<()> {
        for (name, share) in [
            ("mlm_probability", self.probability),
            ("mask_replace_prob", self.replace),
            ("random_replace_prob", self.random),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::argument(name, share, "a share from 0 to 1"));
            }
        }
        if self.replace + self.random > 1.0 {
            return Err(Error::argument(
                "mask_replace_prob + random_replace_prob",
                self.replace + self.random,
                "at most 1",
            ));
        }
        Ok(())
    }

    /// Checks the lengths of spans, and returns their mean.
    pub(super) fn check_lengths(&self) -> Result<f64> {
        if self.span_lengths.is_some() && self.word_starts.is_some() {
            return Err(Error::Shape(
                "mask_span_length and word_starts are both given, expected one of them".into(),
            ));
        }
        let mean = self.span_lengths.as_ref().map_or(1.0, |(_, mean)| *mean);
        if !(mean > 0.0 && mean.is_finite()) {
            return Err(Error::argument("mask_span_length", mean, "more than 0 tokens"));
        }
        Ok(mean)
    }

    /// Checks the size of the vocabulary, which may hold ids up to `largest`, and the ids in it.
    pub(super) fn check_ids(&self, largest: i64) -> Result<()> {
        let size = self.vocab_size;
        if !(1..1 << 31).contains(&size) {
            return Err(Error::argument("vocab_size", size, "1 to 2^31 - 1"));
        }
        if size - 1 > largest {
            let expected = format!("at most {}, the limit of the output's type", largest + 1);
            return Err(Error::argument("vocab_size", size, expected));
        }
        for (name, id) in [("mask_token_id", self.mask_token), ("pad_token_id", self.pad)] {
            if !(0..size).contains(&id) {
                return Err(Error::argument(name, id, format!("an id below vocab_size {size}")));
            }
        }
        if let Some(id) = self.special.iter().find(|id| !(0..size).contains(*id)) {
            let expected = format!("ids below vocab_size {size}");
            return Err(Error::argument("special_token_ids", id, expected));
        }
        let (start, end) = self.random_range;
        if start < 0 || end > size || start > end {
            return Err(Error::argument(
                "random_token_range",
                format!("({start}, {end})"),
                format!("a range within (0, {size})"),
            ));
        }
        Ok(())
    }
}
