//! `corrupt_spans` and `mask_tokens`.

use metro_fast_core::denoise::{
    self, MaskOutput, Masking, SpanCorruption, SpanCounts, SpanOutput, span_widths,
};
use metro_fast_core::rng::{Key, Stream};
use metro_fast_core::tokens::SampleIds;
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{Ids, output, per_row, rows, slice, with_ids};
use crate::enter::enter;
use crate::error::to_python;

type Matrix<'py> = Bound<'py, PyArray2<i64>>;
type Vector<'py> = Bound<'py, PyArray1<i64>>;

/// Returns input ids, labels, and the lengths of both.
#[pyfunction]
#[pyo3(signature = (ids, offsets, sample_ids, *, noise_density, mean_noise_span_length, sentinel_first,
    sentinel_step, num_sentinels, eos_token_id, pad_token_id, seed, epoch, num_threads, input_ids, labels))]
pub(crate) fn corrupt_spans<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    offsets: Option<PyReadonlyArray1<'py, i64>>,
    sample_ids: Option<PyReadonlyArray1<'py, i64>>,
    noise_density: f32,
    mean_noise_span_length: f32,
    sentinel_first: i64,
    sentinel_step: i64,
    num_sentinels: usize,
    eos_token_id: i64,
    pad_token_id: i64,
    seed: u64,
    epoch: u64,
    num_threads: usize,
    input_ids: Option<Matrix<'py>>,
    labels: Option<Matrix<'py>>,
) -> PyResult<(Matrix<'py>, Matrix<'py>, Vector<'py>, Vector<'py>)> {
    let options = SpanCorruption {
        noise_density,
        mean_noise_span_length,
        sentinel_first,
        sentinel_step,
        num_sentinels,
        eos: eos_token_id,
        pad: pad_token_id,
    };
    let key = Key::new(seed, epoch, Stream::Spans);
    let (offsets, sample_ids) = (slice(offsets.as_ref())?, slice(sample_ids.as_ref())?);
    with_ids!(Ids::borrow(ids)?, view => {
        let rows = rows(view.as_slice()?, view.shape(), offsets).map_err(to_python)?;
        let sample_ids = SampleIds::new(sample_ids, rows.count()).map_err(to_python)?;
        let widths = span_widths(&rows, &options).map_err(to_python)?;
        let inputs = output(py, input_ids, rows.count(), widths.0)?;
        let labels = output(py, labels, rows.count(), widths.1)?;
        let (input_lengths, label_lengths) = (per_row(py, rows.count())?, per_row(py, rows.count())?);
        {
            let (mut i, mut l) = (inputs.try_readwrite()?, labels.try_readwrite()?);
            let (mut il, mut ll) = (input_lengths.try_readwrite()?, label_lengths.try_readwrite()?);
            let output = SpanOutput {
                input_ids: i.as_slice_mut()?,
                labels: l.as_slice_mut()?,
                input_lengths: il.as_slice_mut()?,
                label_lengths: ll.as_slice_mut()?,
            };
            enter(py, || {
                denoise::corrupt_spans(&rows, &sample_ids, &options, key, num_threads, output)
            })?;
        }
        Ok((inputs, labels, input_lengths, label_lengths))
    })
}

/// Returns input ids, labels, flat indices of the masked tokens, and the lengths of the rows.
#[pyfunction]
#[pyo3(signature = (ids, offsets, sample_ids, *, mlm_probability, mask_replace_prob, random_replace_prob,
    mask_token_id, vocab_size, special_token_ids, random_token_range, pad_token_id, seed, epoch, num_threads,
    input_ids, labels))]
pub(crate) fn mask_tokens<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    offsets: Option<PyReadonlyArray1<'py, i64>>,
    sample_ids: Option<PyReadonlyArray1<'py, i64>>,
    mlm_probability: f64,
    mask_replace_prob: f64,
    random_replace_prob: f64,
    mask_token_id: i64,
    vocab_size: i64,
    special_token_ids: Vec<i64>,
    random_token_range: (i64, i64),
    pad_token_id: i64,
    seed: u64,
    epoch: u64,
    num_threads: usize,
    input_ids: Option<Matrix<'py>>,
    labels: Option<Matrix<'py>>,
) -> PyResult<(Matrix<'py>, Matrix<'py>, Vector<'py>, Vector<'py>)> {
    let options = Masking {
        probability: mlm_probability,
        replace: mask_replace_prob,
        random: random_replace_prob,
        mask_token: mask_token_id,
        vocab_size,
        special: special_token_ids,
        random_range: random_token_range,
        pad: pad_token_id,
    };
    let key = Key::new(seed, epoch, Stream::Mask);
    let (offsets, sample_ids) = (slice(offsets.as_ref())?, slice(sample_ids.as_ref())?);
    with_ids!(Ids::borrow(ids)?, view => {
        let rows = rows(view.as_slice()?, view.shape(), offsets).map_err(to_python)?;
        let sample_ids = SampleIds::new(sample_ids, rows.count()).map_err(to_python)?;
        let inputs = output(py, input_ids, rows.count(), rows.longest())?;
        let labels = output(py, labels, rows.count(), rows.longest())?;
        let lengths = per_row(py, rows.count())?;
        let positions = {
            let (mut i, mut l) = (inputs.try_readwrite()?, labels.try_readwrite()?);
            let mut lengths = lengths.try_readwrite()?;
            let output = MaskOutput {
                input_ids: i.as_slice_mut()?,
                labels: l.as_slice_mut()?,
                lengths: lengths.as_slice_mut()?,
            };
            enter(py, || {
                denoise::mask_tokens(&rows, &sample_ids, &options, key, num_threads, output)
            })?
        };
        Ok((inputs, labels, PyArray1::from_vec(py, positions), lengths))
    })
}

/// Ids of the corrupted row and of its target, for a row of `tokens`.
#[pyfunction]
pub(crate) fn span_lengths(
    tokens: usize,
    noise_density: f32,
    mean_noise_span_length: f32,
) -> PyResult<(usize, usize)> {
    let counts =
        SpanCounts::of(tokens, noise_density, mean_noise_span_length).map_err(to_python)?;
    Ok((counts.input_length(), counts.label_length()))
}
