//! A denoising task: which tokens are noise, and how inputs and targets show them.

use super::counts::{Billionths, Compat};
use super::span_lengths::SpanLengths;
use crate::{Error, Result};

/// Which tokens of a row are noise. In whole-word mode read "word" for "token".
#[derive(Clone, Debug)]
pub enum Noise {
    /// T5's `random_spans_noise_mask`: exact counts; the lengths of the spans and of the runs between
    /// them are two uniform compositions; a row starts with kept tokens and ends in noise.
    RandomSpans {
        /// Share of noise tokens.
        density: Billionths,
        /// Mean number of tokens in a span.
        mean: Billionths,
        /// The rule for the number of spans.
        compat: Compat,
    },
    /// T5's `iid_noise_mask`: every token is drawn by itself; neighbors merge into a span.
    Iid {
        /// Probability of noise.
        density: Billionths,
    },
    /// T5's `regular_noise_mask`: equal spans at equal distances, of random length and offset.
    RegularSpans {
        /// Share of noise tokens.
        density: Billionths,
        /// Shortest span.
        shortest: u32,
        /// Longest span.
        longest: u32,
    },
    /// T5's `random_prefix_noise_mask`: all but a prefix of random length.
    Prefix {
        /// Mean share of noise tokens, at most a half.
        density: Billionths,
    },
    /// An exact count of noise tokens, in spans whose lengths are drawn from a table, put into
    /// different gaps between the kept tokens (SpanBERT's budget, without its rejections).
    SampledSpans {
        /// Share of noise tokens.
        density: Billionths,
        /// Distribution of the span lengths.
        lengths: SpanLengths,
    },
    /// The T5 baseline of METRO-T0, `generate_masks` of gonglinyuan/metro_t0: spans that grow from
    /// random starts, and empty spans.
    MetroT0 {
        /// Share of noise tokens, including empty spans.
        density: Billionths,
        /// Share of the noise that is empty spans.
        empty: f64,
        /// Longest span before neighbors merge.
        longest: u32,
        /// Whether spans wrap from the end of the row to its first token, as upstream's do.
        upstream: bool,
    },
}

/// How the inputs show a noise span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// As a sentinel of its own.
    UniqueSentinels,
    /// As the first sentinel.
    OneSentinel,
    /// As the first sentinel, once for every token.
    SentinelPerToken,
    /// Not at all.
    Drop,
}

/// The content of the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every span after its sentinel.
    UniqueSentinels,
    /// The noise tokens.
    Drop,
    /// The whole row.
    Whole,
}

/// One task of a mixture.
#[derive(Clone, Debug)]
pub struct Denoiser {
    /// Which tokens are noise.
    pub noise: Noise,
    /// How the inputs show noise.
    pub inputs: Inputs,
    /// The content of the targets.
    pub targets: Targets,
    /// Id at the start of the inputs, such as the mode token `[NLU]`.
    pub prefix: Option<i64>,
}

impl Denoiser {
    pub(super) fn check(&self) -> Result<()> {
        match &self.noise {
            Noise::RegularSpans { shortest, longest, density } => {
                if *shortest == 0 || shortest > longest || *longest > 1 << 20 {
                    return Err(Error::argument(
                        "span_length_range",
                        format!("({shortest}, {longest})"),
                        "1 <= shortest <= longest <= 2^20",
                    ));
                }
                // The distance between spans, a span divided by the density, bounds a 32-bit draw.
                if density.of_words() <= u64::from(*longest) {
                    return Err(Error::argument(
                        "noise_density",
                        density.value(),
                        "more than the longest span / 2^32 for regular spans",
                    ));
                }
            }
            Noise::Prefix { density } if density.value() > 0.5 => {
                let expected = "at most 0.5 for a random prefix";
                return Err(Error::argument("noise_density", density.value(), expected));
            }
            Noise::MetroT0 { empty, longest, .. } => {
                if !(0.0..1.0).contains(empty) {
                    return Err(Error::argument("empty_probability", empty, "a share in [0, 1)"));
                }
                if !(1..=1 << 20).contains(longest) {
                    return Err(Error::argument("max_span_length", longest, "1 to 2^20 tokens"));
                }
            }
            _ => {}
        }
        match self.prefix {
            Some(id) if !(0..1 << 62).contains(&id) => {
                Err(Error::argument("prefix_token_id", id, "a token id, 0 or more"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it needs a sentinel for every span of a row.
    pub(super) fn numbers_spans(&self) -> bool {
        self.inputs == Inputs::UniqueSentinels || self.targets == Targets::UniqueSentinels
    }
}
