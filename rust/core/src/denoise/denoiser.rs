//! A denoising task: which tokens are noise, and what inputs and targets become of them.

use super::counts::{Billionths, Compat};
use super::span_lengths::SpanLengths;
use crate::{Error, Result};

/// Which tokens of a row are noise. In whole-word mode read "word" for "token".
#[derive(Clone, Debug)]
pub enum Noise {
    /// T5's `random_spans_noise_mask`: exact counts, spans and the runs between them two uniform
    /// compositions; a row starts with kept tokens and ends in noise.
    RandomSpans {
        /// Share of noise tokens.
        density: Billionths,
        /// Mean tokens of a span.
        mean: Billionths,
        /// Whose number of spans.
        compat: Compat,
    },
    /// T5's `iid_noise_mask`: every token by itself; neighbors merge into a span.
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
    /// An exact count of noise tokens in spans of lengths drawn from a table, put into different
    /// gaps between the kept tokens (SpanBERT's budget, without its rejections).
    SampledSpans {
        /// Share of noise tokens.
        density: Billionths,
        /// Law of the span lengths.
        lengths: SpanLengths,
    },
    /// The T5 baseline of METRO-T0, `generate_masks` of gonglinyuan/metro_t0: spans that grow from
    /// random starts, and empty spans.
    MetroT0 {
        /// Share of noise tokens, empty spans included.
        density: Billionths,
        /// Share of the noise that is empty spans.
        empty: f64,
        /// Longest span before neighbors merge.
        longest: u32,
        /// Let spans wrap from the end of the row to its first token, as upstream does.
        upstream: bool,
    },
}

/// What stands in the inputs for a noise span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// A sentinel of its own.
    UniqueSentinels,
    /// The first sentinel, for every span.
    OneSentinel,
    /// The first sentinel, for every token.
    SentinelPerToken,
    /// Nothing.
    Drop,
}

/// What the targets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every span behind its sentinel.
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
    /// What the inputs become.
    pub inputs: Inputs,
    /// What the targets become.
    pub targets: Targets,
    /// Id that starts the inputs: a mode token such as `[NLU]`.
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
                // The distance of the spans, a span divided by the density, is a 32-bit draw's bound.
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

    /// Whether a row of it needs a sentinel for every span.
    pub(super) fn numbers_spans(&self) -> bool {
        self.inputs == Inputs::UniqueSentinels || self.targets == Targets::UniqueSentinels
    }
}
