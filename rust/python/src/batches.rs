//! The arguments that `corrupt_spans` and `mask_tokens` share, read from the attributes of Python
//! values.

use metro_fast_core::memory;
use metro_fast_core::tokens::Id;
use numpy::{Element, PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::given_or;
use crate::error::to_python;

/// The special ids of a vocabulary: the attributes of a Python `Vocabulary`.
#[derive(FromPyObject)]
pub(crate) struct Vocabulary<'py> {
    pub(crate) vocab_size: Option<i64>,
    pub(crate) sentinel_first: i64,
    pub(crate) sentinel_step: i64,
    pub(crate) num_sentinels: usize,
    pub(crate) eos_token_id: Option<i64>,
    pub(crate) target_end_token_id: Option<i64>,
    pub(crate) pad_token_id: i64,
    pub(crate) decoder_start_token_id: Option<i64>,
    pub(crate) mask_token_id: Option<i64>,
    pub(crate) special_token_ids: Vec<i64>,
    word_starts: Option<PyReadonlyArray1<'py, bool>>,
}

impl Vocabulary<'_> {
    /// Whether each id starts a word.
    pub(crate) fn word_starts(&self) -> PyResult<Option<Vec<bool>>> {
        let Some(table) = &self.word_starts else { return Ok(None) };
        Ok(Some(memory::copied(table.as_slice()?).map_err(to_python)?))
    }
}

/// Rows of token ids: the attributes of a Python `TokenRows` that holds an array.
#[derive(FromPyObject)]
pub(crate) struct TokenRows<'py> {
    pub(crate) ids: Bound<'py, PyAny>,
    pub(crate) offsets: Option<PyReadonlyArray1<'py, i64>>,
    pub(crate) sample_ids: Option<PyReadonlyArray1<'py, i64>>,
    pub(crate) noise_mask: Option<PyReadonlyArray1<'py, u8>>,
    pub(crate) phases: Option<PyReadonlyArray1<'py, i64>>,
}

/// Ranges of a mapped text: the attributes of a Python `TextRanges`.
#[derive(FromPyObject)]
pub(crate) struct TextRanges<'py> {
    starts: PyReadonlyArray1<'py, i64>,
    ends: PyReadonlyArray1<'py, i64>,
    pub(crate) vocab_size: Option<i64>,
}

impl TextRanges<'_> {
    /// The first token of every row, and the token after its last one.
    pub(crate) fn bounds(&self) -> PyResult<(&[i64], &[i64])> {
        Ok((self.starts.as_slice()?, self.ends.as_slice()?))
    }
}

/// Seed, epoch and threads: the attributes of a Python `Draw`.
#[derive(Clone, Copy, FromPyObject)]
pub(crate) struct Counters {
    pub(crate) seed: u64,
    pub(crate) epoch: u64,
    pub(crate) num_threads: usize,
}

/// The arrays to write, the caller's or new ones: the attributes of a Python `Outputs`.
#[derive(FromPyObject)]
pub(crate) struct Outputs<'py> {
    dtype: String,
    pub(crate) input_ids: Option<Bound<'py, PyAny>>,
    pub(crate) labels: Option<Bound<'py, PyAny>>,
    attention_mask: Option<Bound<'py, PyAny>>,
    decoder_input_ids: Option<Bound<'py, PyAny>>,
    with_attention_mask: bool,
    with_decoder_input_ids: bool,
    input_width: usize,
    label_width: usize,
    multiple: usize,
}

/// An output that exists only if it was asked for.
pub(crate) type Optional<'py, O> = Option<Bound<'py, PyArray2<O>>>;

impl<'py> Outputs<'py> {
    /// Whether the outputs are int32 instead of int64.
    pub(crate) fn narrow(&self) -> bool {
        self.dtype == "int32"
    }

    /// Widths of new inputs and labels whose longest rows have these lengths.
    pub(crate) fn widths(&self, longest: (usize, usize)) -> (usize, usize) {
        let wide = |fixed: usize, longest: usize| match fixed {
            0 => longest.next_multiple_of(self.multiple.max(1)),
            fixed => fixed,
        };
        (wide(self.input_width, longest.0), wide(self.label_width, longest.1))
    }

    /// The attention mask, if it is wanted, as wide as the inputs.
    pub(crate) fn attention_mask<O: Id + Element>(
        &mut self,
        py: Python<'py>,
        rows: usize,
        width: usize,
    ) -> PyResult<Optional<'py, O>> {
        optional(py, self.attention_mask.take(), self.with_attention_mask, rows, width)
    }

    /// The inputs of the decoder, if they are wanted, as wide as the labels.
    pub(crate) fn decoder_input_ids<O: Id + Element>(
        &mut self,
        py: Python<'py>,
        rows: usize,
        width: usize,
    ) -> PyResult<Optional<'py, O>> {
        optional(py, self.decoder_input_ids.take(), self.with_decoder_input_ids, rows, width)
    }
}

fn optional<'py, O: Id + Element>(
    py: Python<'py>,
    array: Option<Bound<'py, PyAny>>,
    wanted: bool,
    rows: usize,
    width: usize,
) -> PyResult<Optional<'py, O>> {
    (wanted || array.is_some()).then(|| given_or(py, array, rows, width)).transpose()
}
