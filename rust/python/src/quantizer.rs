//! A group of tensors made ternary one tensor at a time, and trits packed as they come.

use metro_fast_core::ternary::codec::{self, Coding, default_steps};
use metro_fast_core::ternary::{self, Part};
use metro_fast_core::{Error, Result};
use numpy::{PyArray1, PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use crate::enter::enter;
use crate::error::to_python;
use crate::simd::level;
use crate::ternary::{Products, products, rule};

/// A group of tensors, of which one at a time is in memory: scan every one, refine every one, emit
/// every one, then finish.
#[pyclass(module = "metro_fast._core")]
pub(crate) struct Quantizer(Option<ternary::Quantizer>);

#[pymethods]
impl Quantizer {
    /// `alpha` None is least squares.
    #[new]
    #[pyo3(signature = (density, alpha, upstream=false))]
    fn new(density: f64, alpha: Option<f64>, upstream: bool) -> PyResult<Self> {
        Ok(Self(Some(ternary::Quantizer::new(rule(density, alpha, upstream)?))))
    }

    /// First pass over a tensor.
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

    /// Second pass over a tensor.
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

    /// Last pass over a tensor, whose trits go to `trits`; returns (dot, square, nonzeros).
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

    /// Ends the group: (scale, std, kept, nonzeros).
    fn finish(&mut self) -> PyResult<(f32, f64, u64, u64)> {
        self.group().map_err(to_python)?;
        let found = self.0.take().map(ternary::Quantizer::finish).transpose().map_err(to_python)?;
        Ok(found.map(|g| (g.scale, g.std, g.kept, g.nonzeros)).unwrap_or_default())
    }
}

impl Quantizer {
    fn group(&mut self) -> Result<&mut ternary::Quantizer> {
        self.0.as_mut().ok_or_else(|| Error::Shape("this group is finished: start another".into()))
    }
}

/// Packs trits that come in pieces; the block is that of `pack`.
#[pyclass(module = "metro_fast._core")]
pub(crate) struct Packer(Option<codec::Packer>);

#[pymethods]
impl Packer {
    /// `count` is how many there will be; the length of the streams depends on it.
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
        let packer = self.0.as_mut().ok_or_else(|| to_python(over()))?;
        enter(py, || packer.push(trits, level, num_threads))
    }

    /// The block; the packer is of no more use.
    fn finish<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u8>>> {
        let level = level()?;
        let packer = self.0.take().ok_or_else(|| to_python(over()))?;
        let block = enter(py, || packer.finish(level))?;
        Ok(PyArray1::from_vec(py, block))
    }
}

fn over() -> Error {
    Error::Shape("this packer is finished: start another".into())
}
