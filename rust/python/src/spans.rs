//! `corrupt_spans`: plans a batch, allocates its arrays, and writes them.

use metro_fast_core::denoise::{self, Draw, SpanOutput, SpanPlan};
use metro_fast_core::tokens::{Id, Rows, SampleIds, Token};
use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadwriteArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{Ids, given_or, per_row, rows, slice, with_ids};
use crate::batches::{Counters, Outputs, TokenRows};
use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;
use crate::span_options::SpanOptions;

/// Returns input ids, labels, the lengths of both, the denoiser of every row, and, if they are
/// wanted, the attention mask and the decoder's input ids.
#[pyfunction]
pub(crate) fn corrupt_spans<'py>(
    py: Python<'py>,
    batch: TokenRows<'py>,
    options: &SpanOptions,
    outputs: Outputs<'py>,
    counters: Counters,
) -> PyResult<Bound<'py, PyTuple>> {
    let offsets = slice(batch.offsets.as_ref())?;
    let draw = Draw {
        seed: counters.seed,
        epoch: counters.epoch,
        noise_mask: batch.noise_mask.as_ref().map(PyReadonlyArray1::as_slice).transpose()?,
        phases: slice(batch.phases.as_ref())?,
        level: level()?,
        num_threads: counters.num_threads,
    };
    let sample_ids = slice(batch.sample_ids.as_ref())?;
    with_ids!(Ids::borrow(&batch.ids)?, view => {
        let rows = rows(view.as_slice()?, view.shape(), offsets).map_err(to_python)?;
        corrupt_rows(py, &rows, sample_ids, options, outputs, draw)
    })
}

/// Corrupts rows from an array or from a mapped text.
pub(crate) fn corrupt_rows<'py, T: Token>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    sample_ids: Option<&[i64]>,
    options: &SpanOptions,
    outputs: Outputs<'py>,
    draw: Draw<'_>,
) -> PyResult<Bound<'py, PyTuple>> {
    let sample_ids = SampleIds::new(sample_ids, rows.count()).map_err(to_python)?;
    let largest = if outputs.narrow() { <i32 as Id>::MAX } else { <i64 as Id>::MAX };
    let plan =
        enter(py, || denoise::plan_spans(rows, &sample_ids, &options.options, draw, largest))?;
    if outputs.narrow() {
        write::<T, i32>(py, rows, options, outputs, draw, &plan)
    } else {
        write::<T, i64>(py, rows, options, outputs, draw, &plan)
    }
}

fn write<'py, T: Token, O: Id + Element>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    options: &SpanOptions,
    mut outputs: Outputs<'py>,
    draw: Draw<'_>,
    plan: &SpanPlan,
) -> PyResult<Bound<'py, PyTuple>> {
    let count = rows.count();
    let widths = outputs.widths(plan.widths);
    let inputs: Bound<'py, PyArray2<O>> = given_or(py, outputs.input_ids.take(), count, widths.0)?;
    let labels: Bound<'py, PyArray2<O>> = given_or(py, outputs.labels.take(), count, widths.1)?;
    let mask = outputs.attention_mask::<O>(py, count, inputs.dims()[1])?;
    let decoder = outputs.decoder_input_ids::<O>(py, count, labels.dims()[1])?;
    let lengths: [Bound<'py, PyArray1<i64>>; 3] =
        [per_row(py, count)?, per_row(py, count)?, per_row(py, count)?];
    {
        let (mut i, mut l) = (inputs.try_readwrite()?, labels.try_readwrite()?);
        let mut m = mask.as_ref().map(PyArrayMethods::try_readwrite).transpose()?;
        let mut d = decoder.as_ref().map(PyArrayMethods::try_readwrite).transpose()?;
        let [mut il, mut ll, mut de] =
            [lengths[0].try_readwrite()?, lengths[1].try_readwrite()?, lengths[2].try_readwrite()?];
        let output = SpanOutput {
            input_ids: i.as_slice_mut()?,
            labels: l.as_slice_mut()?,
            attention_mask: m.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?,
            decoder_input_ids: d.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?,
            input_lengths: il.as_slice_mut()?,
            label_lengths: ll.as_slice_mut()?,
            denoisers: de.as_slice_mut()?,
        };
        let (level, threads) = (draw.level, draw.num_threads);
        enter(py, || denoise::corrupt_spans(rows, &options.options, plan, level, threads, output))?;
    }
    let [input_lengths, label_lengths, denoisers] = lengths;
    (inputs, labels, input_lengths, label_lengths, denoisers, mask, decoder).into_pyobject(py)
}
