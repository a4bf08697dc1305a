//! The options of `corrupt_spans`, read from Python once and used for many batches.

use metro_fast_core::denoise::{
    Billionths, Compat, Denoiser, Inputs, Noise, Sentinels, SpanCorruption, SpanCounts,
    SpanLengths, Targets,
};
use metro_fast_core::{Error, Result};
use numpy::PyReadonlyArray1;
use pyo3::prelude::*;

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

/// Checked options of `corrupt_spans`.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct SpanOptions {
    pub(crate) options: SpanCorruption,
}

#[pymethods]
impl SpanOptions {
    #[new]
    #[pyo3(signature = (denoisers, weights, *, sentinel_first, sentinel_step, num_sentinels,
        clamp_sentinels, eos_token_id, target_end_token_id, pad_token_id, decoder_start_token_id,
        vocab_size, word_starts, special_token_ids, max_input_length, max_target_length))]
    fn new(
        denoisers: Vec<Described>,
        weights: Vec<Vec<f64>>,
        sentinel_first: i64,
        sentinel_step: i64,
        num_sentinels: usize,
        clamp_sentinels: bool,
        eos_token_id: Option<i64>,
        target_end_token_id: Option<i64>,
        pad_token_id: i64,
        decoder_start_token_id: i64,
        vocab_size: Option<i64>,
        word_starts: Option<PyReadonlyArray1<'_, bool>>,
        special_token_ids: Vec<i64>,
        max_input_length: Option<usize>,
        max_target_length: Option<usize>,
    ) -> PyResult<Self> {
        let denoisers: Result<Vec<Denoiser>> = denoisers.iter().map(Described::read).collect();
        let mut special = special_token_ids;
        special.sort_unstable();
        let options = SpanCorruption {
            denoisers: denoisers.map_err(to_python)?,
            weights,
            sentinels: Sentinels {
                first: sentinel_first,
                step: sentinel_step,
                count: num_sentinels,
                clamp: clamp_sentinels,
            },
            input_end: eos_token_id,
            target_end: target_end_token_id,
            vocab_size,
            pad: pad_token_id,
            decoder_start: decoder_start_token_id,
            word_starts: word_starts
                .map(|table| Ok::<_, PyErr>(table.as_slice()?.to_vec()))
                .transpose()?,
            special,
            longest_input: max_input_length,
            longest_target: max_target_length,
        };
        options.check().map_err(to_python)?;
        Ok(Self { options })
    }
}

/// Ids of the corrupted row and of its target, for a row of `tokens`.
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
