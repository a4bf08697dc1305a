//! Bindings of `ternarize`, `pack`, `unpack` and `expand`.

use half::{bf16, f16};
use metro_fast_core::shown::shown;
use metro_fast_core::ternary::codec::{self, Block, Coding, default_steps};
use metro_fast_core::ternary::{self, Agreement, Alpha, Part, Rule, Segment};
use metro_fast_core::{Error, Result, memory};
use numpy::{PyArray1, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;

/// Ternarizes one group of tensors into slices of `trits` that begin at `starts`.
///
/// `alpha=None` selects least squares. Returns scale, std, kept, nonzeros, and for each part the
/// inner products with its trits.
#[pyfunction]
#[pyo3(signature = (parts, starts, trits, density, alpha, num_threads, upstream=false))]
#[allow(clippy::too_many_arguments)]
pub(crate) fn ternarize(
    py: Python<'_>,
    parts: Vec<(String, PyReadonlyArray1<'_, f32>)>,
    starts: Vec<usize>,
    mut trits: PyReadwriteArray1<'_, i8>,
    density: f64,
    alpha: Option<f64>,
    num_threads: usize,
    upstream: bool,
) -> PyResult<(f32, f64, u64, u64, Vec<Products>)> {
    let given = parts;
    let mut parts = memory::with_room(given.len()).map_err(to_python)?;
    for (name, values) in &given {
        parts.push(Part { name, values: values.as_slice()? });
    }
    let mut rest = trits.as_slice_mut()?;
    let (total, mut done) = (rest.len(), 0usize);
    let mut outs = memory::with_room(parts.len()).map_err(to_python)?;
    for (part, start) in parts.iter().zip(&starts) {
        let len = part.values.len();
        let skip = start.checked_sub(done).filter(|skip| skip.saturating_add(len) <= rest.len());
        let Some(skip) = skip else {
            let message = format!(
                "{} cannot start at trit {start} of {total}: it overlaps the tensor before it or leaves the trits",
                part.name
            );
            return Err(to_python(Error::Shape(message)));
        };
        let (out, after) = rest[skip..].split_at_mut(len);
        outs.push(out);
        rest = after;
        done = start + len;
    }
    let (rule, level) = (rule(density, alpha, upstream)?, level()?);
    let (group, kept) = enter(py, || ternary::ternarize(&parts, outs, rule, level, num_threads))?;
    let products = memory::collect(kept.into_iter().map(products)).map_err(to_python)?;
    Ok((group.scale, group.std, group.kept, group.nonzeros, products))
}

/// The inner products of a tensor with its trits: (dot, square, nonzeros).
pub(crate) type Products = (f64, f64, u64);

pub(crate) fn products(found: Agreement) -> Products {
    (found.dot, found.square, found.nonzeros)
}

/// Makes a rule; `alpha=None` selects least squares.
pub(crate) fn rule(density: f64, alpha: Option<f64>, upstream: bool) -> PyResult<Rule> {
    let alpha = alpha.map_or(Alpha::LeastSquares, Alpha::Fixed);
    Rule::new(density, alpha, upstream).map_err(to_python)
}

/// Packs trits into a block.
#[pyfunction]
pub(crate) fn pack<'py>(
    py: Python<'py>,
    trits: PyReadonlyArray1<'py, i8>,
    coding: &str,
    steps: Option<u32>,
    num_threads: usize,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let coding = match coding {
        "t4" => Coding::T4,
        "bitmask" => Coding::Bitmask,
        _ => return Err(to_python(Error::argument("coding", coding, "\"t4\" or \"bitmask\""))),
    };
    let (trits, level) = (trits.as_slice()?, level()?);
    let steps = steps.unwrap_or_else(|| default_steps(trits.len()));
    let block = enter(py, || codec::pack(trits, coding, steps, level, num_threads))?;
    Ok(PyArray1::from_vec(py, block))
}

/// Returns the number of trits, the number of nonzeros, and the parameter S of a block.
#[pyfunction]
pub(crate) fn block_info(
    py: Python<'_>,
    packed: PyReadonlyArray1<'_, u8>,
) -> PyResult<(usize, u64, u32)> {
    let packed = packed.as_slice()?;
    let block = enter(py, || Block::parse(packed))?;
    Ok((block.count(), block.nonzeros(), block.steps()))
}

/// Decodes a block into `out`, an array of i8 for "i8", of f32 for "f32", and of u16 bits for "f16"
/// and "bf16".
#[pyfunction]
pub(crate) fn unpack(
    py: Python<'_>,
    packed: PyReadonlyArray1<'_, u8>,
    scale: f32,
    dtype: &str,
    out: &Bound<'_, PyAny>,
    num_threads: usize,
) -> PyResult<()> {
    let (packed, level) = (packed.as_slice()?, level()?);
    match dtype {
        "i8" => decode(py, out, |out| {
            Block::parse(packed)?.at(level).unpack([-1i8, 0, 1], out, num_threads)
        }),
        "f32" => decode(py, out, |out| {
            Block::parse(packed)?.at(level).unpack(values(scale), out, num_threads)
        }),
        _ => {
            let round = rounding(dtype)?;
            decode(py, out, |out| {
                Block::parse(packed)?.at(level).unpack(values(scale).map(round), out, num_threads)
            })
        }
    }
}

/// Decodes a block whose tensors have their own values: tensor i has `lengths[i]` trits, which
/// start at `starts[i]` and have the values `values[3 i..]` for -1, 0 and +1. If `write[i]` is
/// false, this part of `out` is left unchanged.
#[pyfunction]
pub(crate) fn expand(
    py: Python<'_>,
    packed: PyReadonlyArray1<'_, u8>,
    starts: PyReadonlyArray1<'_, i64>,
    lengths: PyReadonlyArray1<'_, i64>,
    values: PyReadonlyArray1<'_, f32>,
    write: PyReadonlyArray1<'_, bool>,
    dtype: &str,
    out: &Bound<'_, PyAny>,
    num_threads: usize,
) -> PyResult<()> {
    let (packed, level) = (packed.as_slice()?, level()?);
    let (starts, lengths) = (starts.as_slice()?, lengths.as_slice()?);
    let (values, write) = (values.as_slice()?.as_chunks().0, write.as_slice()?);
    if [lengths.len(), values.len(), write.len()] != [starts.len(); 3] {
        return Err(to_python(Error::Shape(
            "starts, lengths, values and write do not have the same number of elements".into(),
        )));
    }
    let segments = || {
        let parts = starts.iter().zip(lengths).zip(values).zip(write);
        parts.map(|(((start, length), values), write)| {
            // A negative number becomes so large that it is outside the block, and is refused
            // there.
            (*start as usize, *length as usize, write.then_some(*values))
        })
    };
    if dtype == "f32" {
        return decode(py, out, |out| {
            let segments = segments_of(segments(), |value| value)?;
            ternary::expand(&Block::parse(packed)?.at(level), &segments, out, num_threads)
        });
    }
    let round = rounding(dtype)?;
    decode(py, out, |out| {
        let segments = segments_of(segments(), round)?;
        ternary::expand(&Block::parse(packed)?.at(level), &segments, out, num_threads)
    })
}

fn decode<T: numpy::Element + Copy + Send + Sync>(
    py: Python<'_>,
    out: &Bound<'_, PyAny>,
    work: impl FnOnce(&mut [T]) -> Result<()> + Send + pyo3::marker::Ungil,
) -> PyResult<()> {
    let mut out: PyReadwriteArray1<'_, T> = out.extract()?;
    let out = out.as_slice_mut()?;
    enter(py, || work(out))
}

fn values(scale: f32) -> [f32; 3] {
    // A scale of 0, or -0, gives +0 for -1 and +1.
    [0.0 - scale, 0.0, scale + 0.0]
}

fn segments_of<T>(
    segments: impl Iterator<Item = (usize, usize, Option<[f32; 3]>)>,
    round: impl Fn(f32) -> T,
) -> Result<Vec<Segment<T>>> {
    memory::collect(segments.map(|(start, len, values)| Segment {
        start,
        len,
        values: values.map(|v| v.map(&round)),
    }))
}

fn rounding(dtype: &str) -> PyResult<fn(f32) -> u16> {
    match dtype {
        "f16" => Ok(|value| f16::from_f32(value).to_bits()),
        "bf16" => Ok(|value| bf16::from_f32(value).to_bits()),
        _ => Err(PyTypeError::new_err(format!(
            "dtype is {}, expected i8, f32, f16 or bf16",
            shown(dtype)
        ))),
    }
}
