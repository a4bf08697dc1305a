//! A memory-mapped token corpus, and the blocks that it is cut into.

use std::path::PathBuf;
use std::sync::Arc;

use metro_fast_core::corpus::blocks::{BlockMode, Blocks};
use metro_fast_core::corpus::{Corpus, Width};
use metro_fast_core::denoise::Draw;
use metro_fast_core::order::Order;
use metro_fast_core::rng::{Key, Stream};
use metro_fast_core::tokens::Rows;
use metro_fast_core::{Error, Result};
use numpy::{Element, PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{per_row, slice, zeros};
use crate::batches::{Counters, Outputs, TextRanges};
use crate::enter::enter;
use crate::error::to_python;
use crate::mask::{MaskOptions, mask_rows};
use crate::simd::level;
use crate::span_options::SpanOptions;
use crate::spans::corrupt_rows;

type Numbers<'py> = Bound<'py, PyArray1<i64>>;

/// Evaluates an expression with `$rows` bound to ranges of the text, of the type that holds every
/// id.
macro_rules! with_views {
    ($files:expr, $py:expr, $ranges:expr, $vocab_size:expr, $rows:ident => $body:expr) => {
        match $files.corpus.width() {
            Width::Two => with_views!(u16, $files, $py, $ranges, $vocab_size, $rows => $body),
            Width::Four => with_views!(u32, $files, $py, $ranges, $vocab_size, $rows => $body),
        }
    };
    ($type:ty, $files:expr, $py:expr, $ranges:expr, $vocab_size:expr, $rows:ident => $body:expr) => {{
        let (starts, ends) = $ranges;
        let (corpus, mut owned) = (&$files.corpus, Vec::<$type>::new());
        let views = enter($py, || corpus.views(starts, ends, $vocab_size, &mut owned))?;
        let $rows = Rows::apart(&views).map_err(to_python)?;
        $body
    }};
}

/// The token files of a folder or of one prefix, as one text.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct TokenFiles {
    pub(crate) corpus: Arc<Corpus>,
}

#[pymethods]
impl TokenFiles {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Ok(Self { corpus: Arc::new(enter(py, || Corpus::open(&path))?) })
    }

    /// Number of tokens in all files.
    #[getter]
    fn tokens(&self) -> usize {
        self.corpus.tokens()
    }

    /// Number of documents in all files.
    #[getter]
    fn documents(&self) -> u64 {
        self.corpus.documents()
    }

    /// The name of the tokenizer in the metadata.
    #[getter]
    fn tokenizer(&self) -> &str {
        self.corpus.tokenizer()
    }

    /// Cuts the text into blocks.
    fn cut(
        &self,
        py: Python<'_>,
        mode: &str,
        block_size: u64,
        drop_last: bool,
    ) -> PyResult<TokenBlocks> {
        let mode = match mode {
            "none" => BlockMode::None,
            "complete" => BlockMode::Complete,
            "complete_doc" => BlockMode::CompleteDoc,
            "eos" => BlockMode::Eos,
            "pack" => BlockMode::Pack,
            other => {
                let expected = "none, complete, complete_doc, eos or pack";
                return Err(to_python(Error::argument("blocks", format!("{other:?}"), expected)));
            }
        };
        let corpus = self.corpus.clone();
        let blocks = enter(py, || Blocks::new(corpus, mode, block_size, drop_last))?;
        Ok(TokenBlocks { blocks })
    }

    /// Copies the rows `[starts[r], ends[r])` of the text into one array of uint16 or uint32.
    fn gather<'py>(
        &self,
        py: Python<'py>,
        starts: PyReadonlyArray1<'py, i64>,
        ends: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (starts, ends) = (starts.as_slice()?, ends.as_slice()?);
        let read = |start, row: &mut [_]| self.corpus.read(start, row);
        let read_wide = |start, row: &mut [_]| self.corpus.read(start, row);
        match self.corpus.width() {
            Width::Two => Ok(self.rows::<u16>(py, starts, ends, read)?.into_any()),
            Width::Four => Ok(self.rows::<u32>(py, starts, ends, read_wide)?.into_any()),
        }
    }

    /// Returns the number of each token's document for the rows `[starts[r], ends[r])`, counted
    /// from 1 in every row, in one array.
    fn segments<'py>(
        &self,
        py: Python<'py>,
        starts: PyReadonlyArray1<'py, i64>,
        ends: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<Numbers<'py>> {
        let write = |start, row: &mut [_]| self.corpus.segments(start, row);
        self.rows(py, starts.as_slice()?, ends.as_slice()?, write)
    }

    /// Applies `corrupt_spans` to the rows `[starts[r], ends[r])`, which are read in place.
    fn corrupt_spans<'py>(
        &self,
        py: Python<'py>,
        ranges: TextRanges<'py>,
        sample_ids: PyReadonlyArray1<'py, i64>,
        phases: Option<PyReadonlyArray1<'py, i64>>,
        options: &SpanOptions,
        outputs: Outputs<'py>,
        counters: Counters,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (level, phases) = (level()?, slice(phases.as_ref())?);
        let Counters { seed, epoch, num_threads } = counters;
        let draw = Draw { seed, epoch, noise_mask: None, phases, level, num_threads };
        let names = Some(sample_ids.as_slice()?);
        with_views!(self, py, ranges.bounds()?, ranges.vocab_size, rows => {
            corrupt_rows(py, &rows, names, options, outputs, draw)
        })
    }

    /// Applies `mask_tokens` to the rows `[starts[r], ends[r])`, which are read in place.
    fn mask_tokens<'py>(
        &self,
        py: Python<'py>,
        ranges: TextRanges<'py>,
        sample_ids: PyReadonlyArray1<'py, i64>,
        options: &MaskOptions,
        outputs: Outputs<'py>,
        counters: Counters,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let names = Some(sample_ids.as_slice()?);
        with_views!(self, py, ranges.bounds()?, ranges.vocab_size, rows => {
            mask_rows(py, &rows, names, options, outputs, counters)
        })
    }
}

impl TokenFiles {
    /// Makes a new array of rows, each written by one call of `write`.
    fn rows<'py, T: Element>(
        &self,
        py: Python<'py>,
        starts: &[i64],
        ends: &[i64],
        write: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
    ) -> PyResult<Bound<'py, PyArray1<T>>> {
        let lengths = self.corpus.lengths(starts, ends).map_err(to_python)?;
        let out: Bound<'py, PyArray1<T>> = zeros(py, [lengths.iter().sum::<usize>()])?;
        {
            let mut view = out.try_readwrite()?;
            let mut rest = view.as_slice_mut()?;
            let write = &write;
            enter(py, || {
                for (start, length) in starts.iter().zip(lengths) {
                    let (row, later) = rest.split_at_mut(length);
                    write(*start as usize, row)?;
                    rest = later;
                }
                Ok(())
            })?;
        }
        Ok(out)
    }
}

/// The blocks of a corpus.
#[pyclass(frozen, module = "metro_fast._core")]
pub(crate) struct TokenBlocks {
    pub(crate) blocks: Blocks,
}

#[pymethods]
impl TokenBlocks {
    /// Number of blocks.
    #[getter]
    fn count(&self) -> u64 {
        self.blocks.count()
    }

    /// Whether any block is longer than the block size, and so is cropped when it is read.
    #[getter]
    fn crops(&self) -> bool {
        self.blocks.crops()
    }

    /// Returns the blocks, starts and ends of the indices of an epoch.
    fn locate<'py>(
        &self,
        py: Python<'py>,
        indices: PyReadonlyArray1<'py, i64>,
        shuffle: bool,
        seed: u64,
        epoch: u64,
    ) -> PyResult<(Numbers<'py>, Numbers<'py>, Numbers<'py>)> {
        let indices = indices.as_slice()?;
        let [blocks, starts, ends] = [(); 3].map(|()| per_row(py, indices.len()));
        let (blocks, starts, ends) = (blocks?, starts?, ends?);
        {
            let [mut a, mut b, mut c] =
                [blocks.try_readwrite()?, starts.try_readwrite()?, ends.try_readwrite()?];
            let out = [a.as_slice_mut()?, b.as_slice_mut()?, c.as_slice_mut()?];
            let order = shuffle
                .then(|| Order::new(Key::new(seed, epoch, Stream::Order), self.blocks.count()));
            let crop = Key::new(seed, epoch, Stream::Crop);
            enter(py, || self.blocks.locate(indices, order.as_ref(), crop, out))?;
        }
        Ok((blocks, starts, ends))
    }
}
