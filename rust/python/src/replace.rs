//! Bindings of `sample_replacements` and `replaced_token_labels`.

use half::slice::HalfBitsSliceExt;
use half::{bf16, f16};
use metro_fast_core::replace::{self, Draws, Logit, ReplacedOutput, Sampling};
use metro_fast_core::rng::{Key, Stream};
use metro_fast_core::simd::Level;
use metro_fast_core::tokens::SampleIds;
use metro_fast_core::{Error, Result};
use numpy::{
    PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::arrays::{slice, view, wrong_type, zeros};
use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;

/// Draws one id for each row. `bits` names the number format; 16-bit formats are passed as
/// arrays of uint16.
#[pyfunction]
#[pyo3(signature = (logits, sample_ids, positions, excluded, *, bits, temperature, top_k, forbidden, seed, epoch, num_threads, out))]
pub(crate) fn sample_replacements<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    sample_ids: Option<PyReadonlyArray1<'py, i64>>,
    positions: Option<PyReadonlyArray1<'py, i64>>,
    excluded: Option<PyReadonlyArray1<'py, i64>>,
    bits: &str,
    temperature: f64,
    top_k: Option<usize>,
    forbidden: Option<PyReadonlyArray1<'py, i64>>,
    seed: u64,
    epoch: u64,
    num_threads: usize,
    out: Option<Bound<'py, PyArray1<i64>>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (sample_ids, positions) = (slice(sample_ids.as_ref())?, slice(positions.as_ref())?);
    let (excluded, forbidden) = (slice(excluded.as_ref())?, slice(forbidden.as_ref())?);
    let forbidden = forbidden.unwrap_or_default();
    let sampling = Sampling { temperature, top_k, forbidden, excluded };
    let level = level()?;
    let draw = Draw { seed, epoch, sample_ids, positions, sampling, level, num_threads, out };
    match bits {
        "float32" => draw.run(py, &typed(logits, bits)?, |x: &[f32]| x),
        "bfloat16" => draw.run(py, &typed(logits, bits)?, |x: &[u16]| x.reinterpret_cast::<bf16>()),
        "float16" => draw.run(py, &typed(logits, bits)?, |x: &[u16]| x.reinterpret_cast::<f16>()),
        other => Err(to_python(Error::argument("bits", other, "float32, bfloat16 or float16"))),
    }
}

fn typed<'py, T: numpy::Element>(
    logits: &Bound<'py, PyAny>,
    bits: &str,
) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    view(logits)?.ok_or_else(|| wrong_type("logits", logits, &format!("the bits of {bits}")))
}

/// The arguments of one call, except its logits.
struct Draw<'a, 'py> {
    seed: u64,
    epoch: u64,
    sample_ids: Option<&'a [i64]>,
    positions: Option<&'a [i64]>,
    sampling: Sampling<'a>,
    level: Level,
    num_threads: usize,
    out: Option<Bound<'py, PyArray1<i64>>>,
}

impl<'py> Draw<'_, 'py> {
    fn run<T: numpy::Element, L: Logit>(
        self,
        py: Python<'py>,
        logits: &PyReadonlyArrayDyn<'py, T>,
        read: impl Fn(&[T]) -> &[L],
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let (rows, vocabulary) = matrix(logits.shape()).map_err(to_python)?;
        let out = self.out.map_or_else(|| zeros(py, [rows]), Ok)?;
        let key = Key::new(self.seed, self.epoch, Stream::Replace);
        let sample_ids = SampleIds::new(self.sample_ids, rows).map_err(to_python)?;
        let draws = Draws::new(key, sample_ids, self.positions, rows).map_err(to_python)?;
        {
            let logits = read(logits.as_slice()?);
            let mut ids = out.try_readwrite()?;
            let ids = ids.as_slice_mut()?;
            let (sampling, level, threads) = (self.sampling, self.level, self.num_threads);
            enter(py, || {
                replace::sample_replacements(
                    logits, vocabulary, &draws, &sampling, level, threads, ids,
                )
            })?;
        }
        Ok(out)
    }
}

fn matrix(shape: &[usize]) -> Result<(usize, usize)> {
    match shape {
        [rows, vocabulary] => Ok((*rows, *vocabulary)),
        _ => Err(Error::Shape(format!("logits has {} dimensions, expected 2", shape.len()))),
    }
}

/// Fills `input_ids` and `labels`, which have the shape of `original`.
#[pyfunction]
#[pyo3(signature = (original, positions, sampled, *, pad_token_id, num_threads, input_ids, labels))]
pub(crate) fn replaced_token_labels<'py>(
    py: Python<'py>,
    original: PyReadonlyArrayDyn<'py, i64>,
    positions: PyReadonlyArray1<'py, i64>,
    sampled: PyReadonlyArray1<'py, i64>,
    pad_token_id: i64,
    num_threads: usize,
    input_ids: &Bound<'py, PyArrayDyn<i64>>,
    labels: &Bound<'py, PyArrayDyn<i8>>,
) -> PyResult<()> {
    let (original, positions, sampled) =
        (original.as_slice()?, positions.as_slice()?, sampled.as_slice()?);
    let (mut inputs, mut labels) = (input_ids.try_readwrite()?, labels.try_readwrite()?);
    let output =
        ReplacedOutput { input_ids: inputs.as_slice_mut()?, labels: labels.as_slice_mut()? };
    enter(py, || {
        replace::replaced_token_labels(
            original,
            positions,
            sampled,
            pad_token_id,
            num_threads,
            output,
        )
    })
}
