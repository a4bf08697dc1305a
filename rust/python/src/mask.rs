//! `mask_tokens`.

use metro_fast_core::denoise::{self, Count, MaskOutput, Masking, SpanLengths};
use metro_fast_core::tokens::{Id, Rows, SampleIds, Token};
use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadwriteArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{Ids, given_or, per_row, rows, slice, with_ids};
use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;

/// Options of `mask_tokens`, read from Python once and used for many batches.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct MaskOptions {
    options: Masking,
}

#[pymethods]
impl MaskOptions {
    #[new]
    #[pyo3(signature = (*, count, mlm_probability, max_masked, span_lengths, mean_span_length,
        word_starts, mask_replace_prob, random_replace_prob, mask_token_id, vocab_size,
        special_token_ids, random_token_range, pad_token_id))]
    fn new(
        count: &str,
        mlm_probability: f64,
        max_masked: Option<usize>,
        span_lengths: Option<Vec<f64>>,
        mean_span_length: f64,
        word_starts: Option<PyReadonlyArray1<'_, bool>>,
        mask_replace_prob: f64,
        random_replace_prob: f64,
        mask_token_id: i64,
        vocab_size: i64,
        special_token_ids: Vec<i64>,
        random_token_range: (i64, i64),
        pad_token_id: i64,
    ) -> PyResult<Self> {
        let how_many = match count {
            "metro" => Count::Metro,
            "electra" => Count::Electra,
            _ => {
                let error = metro_fast_core::Error::argument(
                    "count",
                    format!("{count:?}"),
                    "metro or electra",
                );
                return Err(to_python(error));
            }
        };
        let lengths = span_lengths.map(|table| SpanLengths::new(&table, 0)).transpose();
        let options = Masking {
            how_many,
            most: max_masked,
            span_lengths: lengths.map_err(to_python)?.map(|table| (table, mean_span_length)),
            word_starts: word_starts
                .map(|table| Ok::<_, PyErr>(table.as_slice()?.to_vec()))
                .transpose()?,
            probability: mlm_probability,
            replace: mask_replace_prob,
            random: random_replace_prob,
            mask_token: mask_token_id,
            vocab_size,
            special: special_token_ids,
            random_range: random_token_range,
            pad: pad_token_id,
        };
        options.check().map_err(to_python)?;
        Ok(Self { options })
    }
}

/// What a call wants to be written: its own arrays, or new ones, of int64 or int32.
#[derive(FromPyObject)]
pub(crate) struct WantedMasks<'py> {
    dtype: String,
    input_ids: Option<Bound<'py, PyAny>>,
    labels: Option<Bound<'py, PyAny>>,
    attention_mask: Option<Bound<'py, PyAny>>,
    with_attention_mask: bool,
    input_width: usize,
    multiple: usize,
}

/// Seed, epoch and what they are drawn with.
pub(crate) struct MaskDraw {
    pub(crate) seed: u64,
    pub(crate) epoch: u64,
    pub(crate) num_threads: usize,
}

/// Returns input ids, labels, flat indices of the masked tokens, the lengths of the rows, and the
/// attention mask where it is wanted.
#[pyfunction]
#[pyo3(signature = (ids, offsets, sample_ids, options, wanted, *, seed, epoch, num_threads))]
pub(crate) fn mask_tokens<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    offsets: Option<PyReadonlyArray1<'py, i64>>,
    sample_ids: Option<PyReadonlyArray1<'py, i64>>,
    options: &MaskOptions,
    wanted: WantedMasks<'py>,
    seed: u64,
    epoch: u64,
    num_threads: usize,
) -> PyResult<Bound<'py, PyTuple>> {
    let (offsets, sample_ids) = (slice(offsets.as_ref())?, slice(sample_ids.as_ref())?);
    let draw = MaskDraw { seed, epoch, num_threads };
    with_ids!(Ids::borrow(ids)?, view => {
        let rows = rows(view.as_slice()?, view.shape(), offsets).map_err(to_python)?;
        mask_rows(py, &rows, sample_ids, options, wanted, draw)
    })
}

/// The same of rows from anywhere.
pub(crate) fn mask_rows<'py, T: Token>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    sample_ids: Option<&[i64]>,
    options: &MaskOptions,
    wanted: WantedMasks<'py>,
    draw: MaskDraw,
) -> PyResult<Bound<'py, PyTuple>> {
    if wanted.dtype == "int32" {
        write::<T, i32>(py, rows, sample_ids, options, wanted, draw)
    } else {
        write::<T, i64>(py, rows, sample_ids, options, wanted, draw)
    }
}

fn write<'py, T: Token, O: Id + Element>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    sample_ids: Option<&[i64]>,
    options: &MaskOptions,
    wanted: WantedMasks<'py>,
    draw: MaskDraw,
) -> PyResult<Bound<'py, PyTuple>> {
    let count = rows.count();
    let sample_ids = SampleIds::new(sample_ids, count).map_err(to_python)?;
    let width = match wanted.input_width {
        0 => rows.longest().next_multiple_of(wanted.multiple.max(1)),
        fixed => fixed,
    };
    let inputs: Bound<'py, PyArray2<O>> = given_or(py, wanted.input_ids, count, width)?;
    let labels: Bound<'py, PyArray2<O>> = given_or(py, wanted.labels, count, width)?;
    let given = wanted.attention_mask;
    let mask: Option<Bound<'py, PyArray2<O>>> = (wanted.with_attention_mask || given.is_some())
        .then(|| given_or(py, given, count, inputs.dims()[1]))
        .transpose()?;
    let lengths = per_row(py, count)?;
    let level = level()?;
    let positions = {
        let (mut i, mut l) = (inputs.try_readwrite()?, labels.try_readwrite()?);
        let mut m = mask.as_ref().map(PyArrayMethods::try_readwrite).transpose()?;
        let mut lengths = lengths.try_readwrite()?;
        let output = MaskOutput {
            input_ids: i.as_slice_mut()?,
            labels: l.as_slice_mut()?,
            attention_mask: m.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?,
            lengths: lengths.as_slice_mut()?,
        };
        let seeds = (draw.seed, draw.epoch);
        let (options, threads) = (&options.options, draw.num_threads);
        enter(py, || {
            denoise::mask_tokens(rows, &sample_ids, options, seeds, level, threads, output)
        })?
    };
    (inputs, labels, PyArray1::from_vec(py, positions), lengths, mask).into_pyobject(py)
}
