//! Expert and safetensors files: bytes to checked parts and back, and atomic writing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use metro_fast_core::expert::container::{self, Entry};
use metro_fast_core::expert::{self, Dtype, Manifest};
use metro_fast_core::memory;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::enter::enter;
use crate::error::to_python;

/// Makes the bytes of an expert file from its manifest (JSON), scales, packed block and dense
/// tensors.
#[pyfunction]
pub(crate) fn encode_expert<'py>(
    py: Python<'py>,
    manifest: &str,
    scales: PyReadonlyArray1<'py, f32>,
    block: PyReadonlyArray1<'py, u8>,
    dense: Vec<PyReadonlyArray1<'py, u8>>,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let (scales, block) = (scales.as_slice()?, block.as_slice()?);
    let given = dense;
    let mut dense = memory::with_room(given.len()).map_err(to_python)?;
    for tensor in &given {
        dense.push(tensor.as_slice()?);
    }
    let file = enter(py, || expert::encode(&Manifest::parse(manifest)?, scales, block, &dense))?;
    Ok(PyArray1::from_vec(py, file))
}

/// The parts of a checked expert file: its manifest and scales, and where its block and its dense
/// tensors are.
type Parts<'py> = (String, Bound<'py, PyArray1<f32>>, (usize, usize), Vec<(usize, usize)>);

/// Checks the bytes of an expert file and finds its parts.
#[pyfunction]
pub(crate) fn decode_expert<'py>(
    py: Python<'py>,
    file: PyReadonlyArray1<'py, u8>,
) -> PyResult<Parts<'py>> {
    let file = file.as_slice()?;
    let parts = enter(py, || expert::decode(file))?;
    Ok((
        parts.manifest.to_json().map_err(to_python)?,
        PyArray1::from_vec(py, parts.scales),
        (parts.block.start, parts.block.end),
        parts.dense.into_iter().map(|range| (range.start, range.end)).collect(),
    ))
}

/// A tensor of a safetensors file: (name, dtype, shape, first byte, end).
type Place = (String, String, Vec<usize>, usize, usize);

fn to_tuples(places: Vec<container::Place>) -> Vec<Place> {
    places.into_iter().map(|p| (p.name, p.dtype, p.shape, p.bytes.start, p.bytes.end)).collect()
}

/// Finds the tensors of a safetensors file that is in memory.
#[pyfunction]
pub(crate) fn decode_safetensors(
    py: Python<'_>,
    file: PyReadonlyArray1<'_, u8>,
) -> PyResult<Vec<Place>> {
    let file = file.as_slice()?;
    enter(py, || container::decode(file)).map(to_tuples)
}

/// The tensors of a safetensors file, and its metadata.
type Contents = (Vec<Place>, BTreeMap<String, String>);

/// Finds the tensors and the metadata of a safetensors file that is in memory.
#[pyfunction]
pub(crate) fn decode_safetensors_file(
    py: Python<'_>,
    file: PyReadonlyArray1<'_, u8>,
) -> PyResult<Contents> {
    let file = file.as_slice()?;
    let found = enter(py, || container::contents(file))?;
    Ok((to_tuples(found.places), found.metadata))
}

/// Finds the tensors and the metadata of a safetensors file on disk, of which only the header is
/// read.
#[pyfunction]
pub(crate) fn read_safetensors_header(py: Python<'_>, path: PathBuf) -> PyResult<Contents> {
    let found = enter(py, || container::read_contents(&path))?;
    Ok((to_tuples(found.places), found.metadata))
}

/// Checks that an expert can keep the metadata of a file.
#[pyfunction]
pub(crate) fn check_metadata(py: Python<'_>, metadata: BTreeMap<String, String>) -> PyResult<()> {
    enter(py, || expert::metadata::check(&metadata))
}

/// Makes the bytes of a safetensors file from (name, dtype, shape, bytes) and its metadata.
#[pyfunction]
pub(crate) fn encode_safetensors<'py>(
    py: Python<'py>,
    tensors: Vec<(String, String, Vec<u64>, PyReadonlyArray1<'py, u8>)>,
    metadata: BTreeMap<String, String>,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let entries = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let dtype = Dtype::parse(dtype).map_err(to_python)?;
            Ok(Entry::of(name, dtype, shape, bytes.as_slice()?))
        })
        .collect::<PyResult<Vec<_>>>()?;
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let file = enter(py, || container::encode(entries, &metadata))?;
    Ok(PyArray1::from_vec(py, file))
}

/// The CRC32C (Castagnoli) of bytes; `before` is the checksum of the bytes that precede them.
#[pyfunction]
#[pyo3(signature = (data, before=0))]
pub(crate) fn crc32c(py: Python<'_>, data: PyReadonlyArray1<'_, u8>, before: u32) -> PyResult<u32> {
    let data = data.as_slice()?;
    enter(py, || Ok(expert::checksum(before, data)))
}
