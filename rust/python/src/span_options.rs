//! The options of `corrupt_spans`, read from the attributes of Python values.

use metro_fast_core::denoise::{
    Billionths, Compat, Denoiser, Inputs, Noise, Sentinels, SpanCorruption, SpanCounts,
    SpanLengths, Targets,
};
use metro_fast_core::{Error, Result};
use pyo3::prelude::*;

use crate::batches::Vocabulary;
use crate::error::to_python;

/// The attributes of a Python `Denoiser`.
#[derive(FromPyObject)]
pub(crate) struct Described {
    noise: String,
    noise_density: f64,
    mean_noise_span_length: f64,
    compat: String,
    span_lengths: Option<Vec<f64>>,
    span_length_range: (i64, i64),
    max_span_length: i64,
    empty_probability: f64,
    upstream: bool,
    inputs: String,
    targets: String,
    prefix_token_id: Option<i64>,
    weight: f64,
}

impl Described {
    fn read(&self) -> Result<Denoiser> {
        let density = Billionths::density(self.noise_density)?;
        let noise = match self.noise.as_str() {
            "random_spans" => Noise::RandomSpans {
                density,
                mean: Billionths::mean_length(self.mean_noise_span_length)?,
                compat: compat(&self.compat)?,
            },
            "iid" => Noise::Iid { density },
            "regular_spans" => Noise::RegularSpans {
                density,
                shortest: tokens("span_length_range", self.span_length_range.0)?,
                longest: tokens("span_length_range", self.span_length_range.1)?,
            },
            "prefix" => Noise::Prefix { density },
            "sampled_spans" => Noise::SampledSpans {
                density,
                lengths: SpanLengths::new(self.span_lengths.as_deref().unwrap_or_default(), 1)?,
            },
            "metro_t0" => Noise::MetroT0 {
                density,
                empty: self.empty_probability,
                longest: tokens("max_span_length", self.max_span_length)?,
                upstream: self.upstream,
            },
            other => {
                let expected =
                    "random_spans, iid, regular_spans, prefix, sampled_spans or metro_t0";
                return Err(Error::argument("noise", format!("{other:?}"), expected));
            }
        };
        let inputs = match self.inputs.as_str() {
            "unique_sentinels" => Inputs::UniqueSentinels,
            "one_sentinel" => Inputs::OneSentinel,
            "sentinel_per_token" => Inputs::SentinelPerToken,
            "drop" => Inputs::Drop,
            other => {
                let expected = "unique_sentinels, one_sentinel, sentinel_per_token or drop";
                return Err(Error::argument("inputs", format!("{other:?}"), expected));
            }
        };
        let targets = match self.targets.as_str() {
            "unique_sentinels" => Targets::UniqueSentinels,
            "drop" => Targets::Drop,
            "whole" => Targets::Whole,
            other => {
                let expected = "unique_sentinels, drop or whole";
                return Err(Error::argument("targets", format!("{other:?}"), expected));
            }
        };
        Ok(Denoiser { noise, inputs, targets, prefix: self.prefix_token_id })
    }
}

fn tokens(name: &'static str, length: i64) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::argument(name, length, "1 to 2^20 tokens"))
}

fn compat(name: &str) -> Result<Compat> {
    match name {
        "t5" => Ok(Compat::T5),
        "hf" => Ok(Compat::Hf),
        _ => Err(Error::argument("compat", format!("{name:?}"), "t5 or hf")),
    }
}

/// The attributes of a Python `SpanCorruption`.
#[derive(FromPyObject)]
pub(crate) struct Corruption {
    denoisers: Vec<Described>,
    weights: Option<Vec<Vec<f64>>>,
    on_sentinel_shortage: String,
    max_input_length: Option<usize>,
    max_target_length: Option<usize>,
}

/// Checked options of `corrupt_spans`, read from Python once and used for many batches.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct SpanOptions {
    pub(crate) options: SpanCorruption,
}

#[pymethods]
impl SpanOptions {
    #[new]
    fn new(corruption: Corruption, vocabulary: Vocabulary<'_>) -> PyResult<Self> {
        let tasks = &corruption.denoisers;
        let denoisers: Result<Vec<Denoiser>> = tasks.iter().map(Described::read).collect();
        let own_weights = || vec![tasks.iter().map(|task| task.weight).collect()];
        let word_starts = vocabulary.word_starts()?;
        let mut special = vocabulary.special_token_ids;
        special.sort_unstable();
        let options = SpanCorruption {
            denoisers: denoisers.map_err(to_python)?,
            weights: corruption.weights.unwrap_or_else(own_weights),
            sentinels: Sentinels {
                first: vocabulary.sentinel_first,
                step: vocabulary.sentinel_step,
                count: vocabulary.num_sentinels,
                clamp: corruption.on_sentinel_shortage == "clamp",
            },
            input_end: vocabulary.eos_token_id,
            target_end: vocabulary.target_end_token_id.or(vocabulary.eos_token_id),
            vocab_size: vocabulary.vocab_size,
            pad: vocabulary.pad_token_id,
            decoder_start: vocabulary.decoder_start_token_id.unwrap_or(vocabulary.pad_token_id),
            word_starts,
            special,
            longest_input: corruption.max_input_length,
            longest_target: corruption.max_target_length,
        };
        options.check().map_err(to_python)?;
        Ok(Self { options })
    }
}

/// Numbers of ids in the corrupted row and in its target, for a row of `tokens`.
#[pyfunction]
pub(crate) fn span_lengths(
    tokens: usize,
    noise_density: f64,
    mean_noise_span_length: f64,
    compat: &str,
) -> PyResult<(usize, usize)> {
    let counts = || {
        Ok(SpanCounts::of(
            tokens,
            Billionths::density(noise_density)?,
            Billionths::mean_length(mean_noise_span_length)?,
            self::compat(compat)?,
        ))
    };
    let counts = counts().map_err(to_python)?;
    Ok((counts.input_length(), counts.label_length()))
}
