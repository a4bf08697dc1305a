//! Operations on several experts at once: planes, tables of combinations, and counts.

use metro_fast_core::ternary::codec::Block;
use metro_fast_core::ternary::{self, Piece, Planes};
use metro_fast_core::{Error, Result, memory};
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray1};
use pyo3::prelude::*;

use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;

/// The mask and the signs, with one bit per trit.
type Pair<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u64>>);

/// Decodes a block to its two planes.
#[pyfunction]
pub(crate) fn planes<'py>(
    py: Python<'py>,
    packed: PyReadonlyArray1<'py, u8>,
    num_threads: usize,
) -> PyResult<Pair<'py>> {
    let (packed, level) = (packed.as_slice()?, level()?);
    let (mask, negative) = enter(py, || {
        let block = Block::parse(packed)?.at(level);
        let words = block.count().div_ceil(64);
        let (mut mask, mut negative) = (memory::zeros(words)?, memory::zeros(words)?);
        ternary::planes(&block, &mut mask, &mut negative, num_threads)?;
        Ok((mask, negative))
    })?;
    Ok((PyArray1::from_vec(py, mask), PyArray1::from_vec(py, negative)))
}

/// The planes of each expert as numpy arrays.
type Arrays<'py> = Vec<(PyReadonlyArray1<'py, u64>, PyReadonlyArray1<'py, u64>)>;

fn borrow<'a>(experts: &'a Arrays<'_>) -> PyResult<Vec<Planes<'a>>> {
    let mut planes = memory::with_room(experts.len()).map_err(to_python)?;
    for (mask, negative) in experts {
        planes.push(Planes { mask: mask.as_slice()?, negative: negative.as_slice()? });
    }
    Ok(planes)
}

/// Converts rows of (start, length, table) to pieces.
fn pieces_of(rows: &PyReadonlyArray2<'_, i64>) -> PyResult<Vec<Piece>> {
    let (rows, _) = rows.as_slice()?.as_chunks::<3>();
    let number = |value: i64| {
        usize::try_from(value)
            .map_err(|_| Error::argument("pieces", value, "numbers that are not negative"))
    };
    let pieces = || {
        let mut pieces = memory::with_room(rows.len())?;
        for row in rows {
            let [start, len, table] = row.map(number);
            pieces.push(Piece { start: start?, len: len?, table: table? });
        }
        Result::Ok(pieces)
    };
    pieces().map_err(to_python)
}

/// Looks up the combination of the experts' trits at each position in the table of its piece.
#[pyfunction]
pub(crate) fn look_up(
    py: Python<'_>,
    experts: Arrays<'_>,
    pieces: PyReadonlyArray2<'_, i64>,
    tables: PyReadonlyArray2<'_, f32>,
    mut out: PyReadwriteArray1<'_, f32>,
    num_threads: usize,
) -> PyResult<()> {
    let (experts, pieces) = (borrow(&experts)?, pieces_of(&pieces)?);
    let width = tables.as_array().shape()[1].max(1);
    let tables = memory::collect(tables.as_slice()?.chunks(width)).map_err(to_python)?;
    let (out, level) = (out.as_slice_mut()?, level()?);
    enter(py, || ternary::look_up(&experts, &pieces, &tables, out, level, num_threads))
}

/// Counts how often each combination occurs in the pieces of each table; returns the counts table
/// by table.
#[pyfunction]
pub(crate) fn count_combinations<'py>(
    py: Python<'py>,
    experts: Arrays<'py>,
    pieces: PyReadonlyArray2<'py, i64>,
    tables: usize,
    count: usize,
    num_threads: usize,
) -> PyResult<Bound<'py, PyArray1<u64>>> {
    let (experts, pieces) = (borrow(&experts)?, pieces_of(&pieces)?);
    let level = level()?;
    let counts =
        enter(py, || ternary::count(&experts, &pieces, tables, count, level, num_threads))?;
    Ok(PyArray1::from_vec(py, counts))
}

/// Computes the inner products of the trits of all pairs of experts for each table. The array is
/// flat, in the order [experts, experts, tables].
#[pyfunction]
pub(crate) fn dot_products<'py>(
    py: Python<'py>,
    experts: Arrays<'py>,
    pieces: PyReadonlyArray2<'py, i64>,
    tables: usize,
    count: usize,
    num_threads: usize,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (experts, pieces) = (borrow(&experts)?, pieces_of(&pieces)?);
    let dots = enter(py, || ternary::dot_products(&experts, &pieces, tables, count, num_threads))?;
    Ok(PyArray1::from_vec(py, dots))
}
