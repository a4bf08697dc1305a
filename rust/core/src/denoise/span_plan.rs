//! What a row becomes, before anything is drawn: counts, widths, sentinels.

use crate::tokens::{Rows, Token};
use crate::{Error, Result};

/// How many tokens of a row are noise, and in how many spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanCounts {
    /// Tokens in the row.
    pub length: usize,
    /// Noise tokens.
    pub noise: usize,
    /// Noise spans; 0 exactly where there is no noise.
    pub spans: usize,
}

impl SpanCounts {
    /// The counts of a row of `length` tokens.
    ///
    /// # Errors
    /// A density outside `[0, 1)`, or a mean below 1.
    pub fn of(length: usize, noise_density: f32, mean_noise_span_length: f32) -> Result<Self> {
        check_shares(noise_density, mean_noise_span_length)?;
        Ok(counts(length, noise_density, mean_noise_span_length))
    }

    /// Ids of the corrupted row: kept tokens, a sentinel a span, EOS.
    pub fn input_length(self) -> usize {
        self.length - self.noise + self.spans + 1
    }

    /// Ids of the target: a sentinel and the noise of every span, EOS. A row without noise has the
    /// first sentinel alone, as in T5.
    pub fn label_length(self) -> usize {
        self.noise + self.spans.max(1) + 1
    }
}

fn check_shares(noise_density: f32, mean_noise_span_length: f32) -> Result<()> {
    if !(0.0..1.0).contains(&noise_density) {
        return Err(Error::argument(
            "noise_density",
            noise_density,
            "a share from 0 up to, but not including, 1",
        ));
    }
    if !(mean_noise_span_length >= 1.0 && mean_noise_span_length.is_finite()) {
        return Err(Error::argument(
            "mean_noise_span_length",
            mean_noise_span_length,
            "1 or more tokens",
        ));
    }
    Ok(())
}

/// The one rule that widths and masks share: in f32 and rounded half to even, as the TensorFlow
/// code computes it.
fn counts(length: usize, noise_density: f32, mean_noise_span_length: f32) -> SpanCounts {
    if length < 2 || noise_density == 0.0 {
        // T5 plans a single token as 2, and its noise token is the one that is cut off.
        return SpanCounts { length, noise: 0, spans: 0 };
    }
    let rounded = (length as f32 * noise_density).round_ties_even() as usize;
    let noise = rounded.clamp(1, length - 1);
    let wanted = (noise as f32 / mean_noise_span_length).round_ties_even() as usize;
    SpanCounts { length, noise, spans: wanted.max(1).min(noise).min(length - noise) }
}

/// Options of [`super::corrupt_spans`].
#[derive(Clone, Debug)]
pub struct SpanCorruption {
    /// Share of tokens that are noise, in `[0, 1)`.
    pub noise_density: f32,
    /// Mean tokens in a noise span, at least 1.
    pub mean_noise_span_length: f32,
    /// Id of the first sentinel.
    pub sentinel_first: i64,
    /// What leads from one sentinel to the next: 1 or -1.
    pub sentinel_step: i64,
    /// How many sentinels the vocabulary has.
    pub num_sentinels: usize,
    /// Id that ends inputs and labels.
    pub eos: i64,
    /// Id that fills the inputs of short rows.
    pub pad: i64,
}

impl SpanCorruption {
    /// Checks every option against its domain.
    ///
    /// # Errors
    /// The first option outside its domain.
    pub fn check(&self) -> Result<()> {
        check_shares(self.noise_density, self.mean_noise_span_length)?;
        if self.sentinel_step.abs() != 1 {
            return Err(Error::argument("sentinel_step", self.sentinel_step, "1 or -1"));
        }
        if self.num_sentinels == 0 || self.num_sentinels > 1 << 31 {
            return Err(Error::argument("num_sentinels", self.num_sentinels, "1 to 2^31"));
        }
        for (name, id) in [
            ("sentinel_first", self.sentinel_first),
            ("eos_token_id", self.eos),
            ("pad_token_id", self.pad),
        ] {
            if !(0..1 << 62).contains(&id) {
                return Err(Error::argument(name, id, "a token id, 0 or more"));
            }
        }
        let (lowest, _) = self.sentinel_range();
        if lowest < 0 {
            return Err(Error::argument(
                "num_sentinels",
                self.num_sentinels,
                format!(
                    "at most the {} ids from sentinel_first {} down to 0",
                    self.sentinel_first + 1,
                    self.sentinel_first
                ),
            ));
        }
        Ok(())
    }

    /// The counts of a row of `length` tokens.
    pub(super) fn counts(&self, length: usize) -> SpanCounts {
        counts(length, self.noise_density, self.mean_noise_span_length)
    }

    /// Lowest and highest sentinel id.
    pub(super) fn sentinel_range(&self) -> (i64, i64) {
        let last = self.sentinel_first + self.sentinel_step * (self.num_sentinels as i64 - 1);
        (self.sentinel_first.min(last), self.sentinel_first.max(last))
    }
}

/// Width of the inputs and of the labels that hold every row.
///
/// # Errors
/// An option outside its domain, or a row that needs more sentinels than there are.
pub fn span_widths<T: Token>(rows: &Rows<T>, options: &SpanCorruption) -> Result<(usize, usize)> {
    options.check()?;
    let mut widths = (0, 0);
    let mut known = options.counts(0);
    for row in 0..rows.count() {
        let length = rows.length(row);
        if length == known.length {
            continue;
        }
        if length >= 1 << 31 {
            return Err(Error::Shape(format!(
                "row {row} has {length} tokens, expected under 2^31"
            )));
        }
        known = options.counts(length);
        if known.spans > options.num_sentinels {
            return Err(Error::Shape(format!(
                "row {row} of {length} tokens needs {} sentinels, but num_sentinels is {}: use shorter \
                 rows, a greater mean_noise_span_length, or a vocabulary with more sentinels",
                known.spans, options.num_sentinels
            )));
        }
        widths.0 = widths.0.max(known.input_length());
        widths.1 = widths.1.max(known.label_length());
    }
    Ok(widths)
}
