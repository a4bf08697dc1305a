//! Ternarizes a group of tensors one tensor at a time, and packs trits as they arrive.

use metro_fast_core::ternary::codec::{self, Coding, default_steps};
use metro_fast_core::ternary::{self, Part};
use metro_fast_core::{Error, Result};
use numpy::{PyArray1, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;
use crate::ternary::{Products, products, rule};

/// Ternarizes a group of tensors with only one tensor in memory: call `scan` for every tensor, then
/// `refine` for every tensor, then `emit` for every tensor, and then `finish`.
#[pyclass(module = "metro_fast._core")]
pub(crate) struct Quantizer(Option<ternary::Quantizer>);

#[pymethods]
impl Quantizer {
    /// `alpha=None` selects least squares.
    #[new]
    #[pyo3(signature = (density, alpha, upstream=false))]
    fn new(density: f64, alpha: Option<f64>, upstream: bool) -> PyResult<Self> {
        Ok(Self(Some(ternary::Quantizer::new(rule(density, alpha, upstream)?))))
    }

    /// Runs the first pass over a tensor.
    fn scan(
        &mut self,
        py: Python<'_>,
        name: &str,
        values: PyReadonlyArray1<'_, f32>,
        num_threads: usize,
    ) -> PyResult<()> {
        let (parts, level) = ([Part { name, values: values.as_slice()? }], level()?);
        let group = self.group().map_err(to_python)?;
        enter(py, || group.scan(&parts, level, num_threads))
    }

    /// Runs the second pass over a tensor.
    fn refine(
        &mut self,
        py: Python<'_>,
        name: &str,
        values: PyReadonlyArray1<'_, f32>,
        num_threads: usize,
    ) -> PyResult<()> {
        let (parts, level) = ([Part { name, values: values.as_slice()? }], level()?);
        let group = self.group().map_err(to_python)?;
        enter(py, || group.refine(&parts, level, num_threads))
    }

    /// Runs the last pass over a tensor: writes its trits to `trits`, and returns (dot, square,
    /// nonzeros).
    fn emit(
        &mut self,
        py: Python<'_>,
        name: &str,
        values: PyReadonlyArray1<'_, f32>,
        mut trits: PyReadwriteArray1<'_, i8>,
        num_threads: usize,
    ) -> PyResult<Products> {
        let (parts, level) = ([Part { name, values: values.as_slice()? }], level()?);
        let group = self.group().map_err(to_python)?;
        let out = trits.as_slice_mut()?;
        let kept = enter(py, || group.emit(&parts, vec![out], level, num_threads))?;
        Ok(kept.into_iter().map(products).next().unwrap_or_default())
    }

    /// Ends the group and returns (scale, std, kept, nonzeros).
    fn finish(&mut self) -> PyResult<(f32, f64, u64, u64)> {
        self.group().map_err(to_python)?;
        let found = self.0.take().map(ternary::Quantizer::finish).transpose().map_err(to_python)?;
        Ok(found.map(|g| (g.scale, g.std, g.kept, g.nonzeros)).unwrap_or_default())
    }
}

impl Quantizer {
    fn group(&mut self) -> Result<&mut ternary::Quantizer> {
        self.0.as_mut().ok_or_else(|| {
            Error::Shape("this group is already finished: make a new Quantizer".into())
        })
    }
}

/// Packs trits that arrive in pieces into the same block as `pack`.
#[pyclass(module = "metro_fast._core")]
pub(crate) struct Packer(Option<codec::Packer>);

#[pymethods]
impl Packer {
    /// `count` is the total number of trits, on which the length of the streams depends.
    #[new]
    fn new(count: usize) -> PyResult<Self> {
        let packer = codec::Packer::new(Coding::T4, default_steps(count)).map_err(to_python)?;
        Ok(Self(Some(packer)))
    }

    /// Adds trits.
    fn push(
        &mut self,
        py: Python<'_>,
        trits: PyReadonlyArray1<'_, i8>,
        num_threads: usize,
    ) -> PyResult<()> {
        let (trits, level) = (trits.as_slice()?, level()?);
        let packer = self.0.as_mut().ok_or_else(|| to_python(finished()))?;
        enter(py, || packer.push(trits, level, num_threads))
    }

    /// Returns the block; the packer cannot be used afterwards.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let level = level()?;
        let packer = self.0.take().ok_or_else(|| to_python(finished()))?;
        let block = enter(py, || packer.finish(level))?;
        Ok(PyArray1::from_vec(py, block))
    }
}

fn finished() -> Error {
    Error::Shape("this packer is already finished: make a new Packer".into())
}
