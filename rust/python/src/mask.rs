//! `mask_tokens`: its options, and the arrays that it writes.

use metro_fast_core::Error;
use metro_fast_core::denoise::{self, Count, MaskOutput, Masking, SpanLengths};
use metro_fast_core::tokens::{Id, Rows, SampleIds, Token};
use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadwriteArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{Ids, given_or, per_row, rows, slice, with_ids};
use crate::batches::{Counters, Outputs, TokenRows, Vocabulary};
use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;

/// The attributes of a Python `Masking`.
#[derive(FromPyObject)]
pub(crate) struct Described {
    count: String,
    mlm_probability: f64,
    max_masked: Option<usize>,
    mask_span_length: f64,
    span_table: Option<Vec<f64>>,
    mask_replace_prob: f64,
    random_replace_prob: f64,
    random_token_range: Option<(i64, i64)>,
}

/// Checked options of `mask_tokens`, read from Python once and used for many batches.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct MaskOptions {
    options: Masking,
}

#[pymethods]
impl MaskOptions {
    #[new]
    fn new(masking: Described, vocabulary: Vocabulary<'_>) -> PyResult<Self> {
        let how_many = match masking.count.as_str() {
            "metro" => Count::Metro,
            "electra" => Count::Electra,
            other => {
                let error = Error::argument("count", format!("{other:?}"), "metro or electra");
                return Err(to_python(error));
            }
        };
        let missing = |name| to_python(Error::argument(name, "None", "an integer"));
        let vocab_size = vocabulary.vocab_size.ok_or_else(|| missing("vocab_size"))?;
        let lengths = masking.span_table.map(|table| SpanLengths::new(&table, 0)).transpose();
        let options = Masking {
            how_many,
            most: masking.max_masked,
            span_lengths: lengths
                .map_err(to_python)?
                .map(|table| (table, masking.mask_span_length)),
            word_starts: vocabulary.word_starts()?,
            probability: masking.mlm_probability,
            replace: masking.mask_replace_prob,
            random: masking.random_replace_prob,
            mask_token: vocabulary.mask_token_id.ok_or_else(|| missing("mask_token_id"))?,
            vocab_size,
            special: vocabulary.special_token_ids,
            random_range: masking.random_token_range.unwrap_or((0, vocab_size)),
            pad: vocabulary.pad_token_id,
        };
        options.check().map_err(to_python)?;
        Ok(Self { options })
    }
}

/// Returns input ids, labels, flat indices of the masked tokens, the lengths of the rows, and, if
/// it is wanted, the attention mask.
#[pyfunction]
pub(crate) fn mask_tokens<'py>(
    py: Python<'py>,
    batch: TokenRows<'py>,
    options: &MaskOptions,
    outputs: Outputs<'py>,
    counters: Counters,
) -> PyResult<Bound<'py, PyTuple>> {
    let (offsets, sample_ids) = (slice(batch.offsets.as_ref())?, slice(batch.sample_ids.as_ref())?);
    with_ids!(Ids::borrow(&batch.ids)?, view => {
        let rows = rows(view.as_slice()?, view.shape(), offsets).map_err(to_python)?;
        mask_rows(py, &rows, sample_ids, options, outputs, counters)
    })
}

/// Masks rows from an array or from a mapped text.
pub(crate) fn mask_rows<'py, T: Token>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    sample_ids: Option<&[i64]>,
    options: &MaskOptions,
    outputs: Outputs<'py>,
    counters: Counters,
) -> PyResult<Bound<'py, PyTuple>> {
    if outputs.narrow() {
        write::<T, i32>(py, rows, sample_ids, options, outputs, counters)
    } else {
        write::<T, i64>(py, rows, sample_ids, options, outputs, counters)
    }
}

fn write<'py, T: Token, O: Id + Element>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    sample_ids: Option<&[i64]>,
    options: &MaskOptions,
    mut outputs: Outputs<'py>,
    counters: Counters,
) -> PyResult<Bound<'py, PyTuple>> {
    let count = rows.count();
    let sample_ids = SampleIds::new(sample_ids, count).map_err(to_python)?;
    let (width, _) = outputs.widths((rows.longest(), 0));
    let inputs: Bound<'py, PyArray2<O>> = given_or(py, outputs.input_ids.take(), count, width)?;
    let labels: Bound<'py, PyArray2<O>> = given_or(py, outputs.labels.take(), count, width)?;
    let mask = outputs.attention_mask::<O>(py, count, inputs.dims()[1])?;
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
        let seeds = (counters.seed, counters.epoch);
        let (options, threads) = (&options.options, counters.num_threads);
        enter(py, || {
            denoise::mask_tokens(rows, &sample_ids, options, seeds, level, threads, output)
        })?
    };
    (inputs, labels, PyArray1::from_vec(py, positions), lengths, mask).into_pyobject(py)
}
