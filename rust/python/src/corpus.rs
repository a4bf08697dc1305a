//! A mapped token corpus.

use std::path::PathBuf;

use metro_fast_core::corpus::{Corpus, Gathered, Width};
use metro_fast_core::{Error, Result};
use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::zeros;
use crate::enter::enter;
use crate::error::to_python;

/// Every `*.ds` file of a folder, as one text.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct TokenFiles {
    corpus: Corpus,
}

#[pymethods]
impl TokenFiles {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        Ok(Self { corpus: enter(py, || Corpus::open(&folder))? })
    }

    /// Tokens in all files.
    #[getter]
    fn tokens(&self) -> usize {
        self.corpus.tokens()
    }

    /// Documents in all files.
    #[getter]
    fn documents(&self) -> u64 {
        self.corpus.documents()
    }

    /// What the metadata calls the tokenizer.
    #[getter]
    fn tokenizer(&self) -> &str {
        self.corpus.tokenizer()
    }

    /// Copies `[starts[r], ends[r])` of the text, one row after another, as uint16 or uint32.
    fn gather<'py>(
        &self,
        py: Python<'py>,
        starts: PyReadonlyArray1<'py, i64>,
        ends: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (starts, ends) = (starts.as_slice()?, ends.as_slice()?);
        match self.corpus.width() {
            Width::Two => Ok(self.gather_as::<u16>(py, starts, ends)?.into_any()),
            Width::Four => Ok(self.gather_as::<u32>(py, starts, ends)?.into_any()),
        }
    }
}

impl TokenFiles {
    fn gather_as<'py, T: Gathered + Element>(
        &self,
        py: Python<'py>,
        starts: &[i64],
        ends: &[i64],
    ) -> PyResult<Bound<'py, PyArray1<T>>> {
        let lengths = lengths(starts, ends, self.corpus.tokens()).map_err(to_python)?;
        let ids: Bound<'py, PyArray1<T>> = zeros(py, [lengths.iter().sum::<usize>()])?;
        {
            let mut view = ids.try_readwrite()?;
            let mut rest = view.as_slice_mut()?;
            enter(py, || {
                for (start, length) in starts.iter().zip(lengths) {
                    let (row, later) = rest.split_at_mut(length);
                    self.corpus.read(*start as usize, row)?;
                    rest = later;
                }
                Ok(())
            })?;
        }
        Ok(ids)
    }
}

/// Lengths of the rows, checked before anything is allocated for them.
fn lengths(starts: &[i64], ends: &[i64], tokens: usize) -> Result<Vec<usize>> {
    if starts.len() != ends.len() {
        return Err(Error::Shape(format!("{} starts for {} ends", starts.len(), ends.len())));
    }
    let length = |(start, end): (&i64, &i64)| {
        if *start < 0 || end < start || *end as usize > tokens {
            return Err(Error::Shape(format!(
                "tokens {start} to {end} leave the corpus of {tokens} tokens"
            )));
        }
        Ok((end - start) as usize)
    };
    starts.iter().zip(ends).map(length).collect()
}
