//! `corrupt_spans`: plan, allocate, write.

use metro_fast_core::denoise::{self, Draw, SpanOutput, SpanPlan};
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
use crate::span_options::SpanOptions;

/// What a call wants to be written: its own arrays, or new ones, of int64 or int32.
#[derive(FromPyObject)]
pub(crate) struct Wanted<'py> {
    dtype: String,
    input_ids: Option<Bound<'py, PyAny>>,
    labels: Option<Bound<'py, PyAny>>,
    attention_mask: Option<Bound<'py, PyAny>>,
    decoder_input_ids: Option<Bound<'py, PyAny>>,
    with_attention_mask: bool,
    with_decoder_input_ids: bool,
    input_width: usize,
    label_width: usize,
    multiple: usize,
}

/// Returns input ids, labels, the lengths of both, the denoiser of every row, and the attention mask
/// and the decoder's input ids where they are wanted.
#[pyfunction]
#[pyo3(signature = (ids, offsets, sample_ids, noise_mask, phases, options, wanted, *, seed, epoch, num_threads))]
pub(crate) fn corrupt_spans<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    offsets: Option<PyReadonlyArray1<'py, i64>>,
    sample_ids: Option<PyReadonlyArray1<'py, i64>>,
    noise_mask: Option<PyReadonlyArray1<'py, u8>>,
    phases: Option<PyReadonlyArray1<'py, i64>>,
    options: &SpanOptions,
    wanted: Wanted<'py>,
    seed: u64,
    epoch: u64,
    num_threads: usize,
) -> PyResult<Bound<'py, PyTuple>> {
    let offsets = slice(offsets.as_ref())?;
    let draw = Draw {
        seed,
        epoch,
        noise_mask: noise_mask.as_ref().map(PyReadonlyArray1::as_slice).transpose()?,
        phases: slice(phases.as_ref())?,
        level: level()?,
        num_threads,
    };
    let sample_ids = slice(sample_ids.as_ref())?;
    with_ids!(Ids::borrow(ids)?, view => {
        let rows = rows(view.as_slice()?, view.shape(), offsets).map_err(to_python)?;
        corrupt_rows(py, &rows, sample_ids, options, wanted, draw)
    })
}

/// The same of rows from anywhere.
pub(crate) fn corrupt_rows<'py, T: Token>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    sample_ids: Option<&[i64]>,
    options: &SpanOptions,
    wanted: Wanted<'py>,
    draw: Draw<'_>,
) -> PyResult<Bound<'py, PyTuple>> {
    let sample_ids = SampleIds::new(sample_ids, rows.count()).map_err(to_python)?;
    let narrow = wanted.dtype == "int32";
    let largest = if narrow { <i32 as Id>::MAX } else { <i64 as Id>::MAX };
    let plan =
        enter(py, || denoise::plan_spans(rows, &sample_ids, &options.options, draw, largest))?;
    if narrow {
        write::<T, i32>(py, rows, options, wanted, draw, &plan)
    } else {
        write::<T, i64>(py, rows, options, wanted, draw, &plan)
    }
}

fn write<'py, T: Token, O: Id + Element>(
    py: Python<'py>,
    rows: &Rows<'_, T>,
    options: &SpanOptions,
    wanted: Wanted<'py>,
    draw: Draw<'_>,
    plan: &SpanPlan,
) -> PyResult<Bound<'py, PyTuple>> {
    let count = rows.count();
    let wide = |fixed: usize, needed: usize| match fixed {
        0 => needed.next_multiple_of(wanted.multiple.max(1)),
        fixed => fixed,
    };
    let widths = (wide(wanted.input_width, plan.widths.0), wide(wanted.label_width, plan.widths.1));
    let inputs: Bound<'py, PyArray2<O>> = given_or(py, wanted.input_ids, count, widths.0)?;
    let labels: Bound<'py, PyArray2<O>> = given_or(py, wanted.labels, count, widths.1)?;
    let beside = |array: Option<Bound<'py, PyAny>>, wanted: bool, width: usize| {
        (wanted || array.is_some()).then(|| given_or(py, array, count, width)).transpose()
    };
    let mask: Option<Bound<'py, PyArray2<O>>> =
        beside(wanted.attention_mask, wanted.with_attention_mask, inputs.dims()[1])?;
    let decoder: Option<Bound<'py, PyArray2<O>>> =
        beside(wanted.decoder_input_ids, wanted.with_decoder_input_ids, labels.dims()[1])?;
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
