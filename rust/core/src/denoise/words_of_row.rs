//! Words and special tokens of a row, for draws of whole words.

use crate::tokens::Token;
use crate::{Result, memory};

/// The words of the last row that was read.
#[derive(Debug, Default)]
pub(super) struct RowWords {
    /// The starts of the words, and the end of the row.
    pub(super) starts: Vec<u32>,
    /// Bits of the words that hold a special token.
    pub(super) special: Vec<u64>,
}

impl RowWords {
    /// Makes room for the longest row.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if there is not enough memory.
    pub(super) fn reserve(&mut self, longest: usize) -> Result<()> {
        memory::grow(&mut self.starts, longest + 1)?;
        memory::grow(&mut self.special, longest.div_ceil(64))
    }

    /// Reads a row. `table` holds for each id whether it starts a word; ids beyond it do, and without a
    /// table every token is a word. `special` is sorted.
    pub(super) fn read<T: Token>(&mut self, ids: &[T], table: Option<&[bool]>, special: &[i64]) {
        self.starts.clear();
        self.special.clear();
        self.special.resize(ids.len().div_ceil(64), 0);
        for (token, id) in ids.iter().enumerate() {
            let id = id.widen();
            let starts = table.is_none_or(|table| table.get(id as usize).copied().unwrap_or(true));
            if token == 0 || starts {
                self.starts.push(token as u32);
            }
            if special.binary_search(&id).is_ok() {
                let word = self.starts.len() - 1;
                self.special[word / 64] |= 1 << (word % 64);
            }
        }
        self.starts.push(ids.len() as u32);
    }

    /// Number of words in the row.
    pub(super) fn count(&self) -> usize {
        self.starts.len() - 1
    }
}
