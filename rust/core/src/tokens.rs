//! Token ids as callers hold them: four integer types, equal rows or ragged rows of one buffer.

use crate::{Error, Result};

/// An integer type that token ids come in.
pub trait Token: Copy + Send + Sync + 'static {
    /// The id as the 64-bit integer that embeddings and losses take.
    fn widen(self) -> i64;
}

impl Token for u16 {
    #[inline]
    fn widen(self) -> i64 {
        self.into()
    }
}

impl Token for u32 {
    #[inline]
    fn widen(self) -> i64 {
        self.into()
    }
}

impl Token for i32 {
    #[inline]
    fn widen(self) -> i64 {
        self.into()
    }
}

impl Token for i64 {
    #[inline]
    fn widen(self) -> i64 {
        self
    }
}

/// How rows lie in the buffer.
#[derive(Clone, Copy, Debug)]
enum Layout<'a> {
    Equal { count: usize, length: usize },
    Ragged { offsets: &'a [i64] },
}

/// A batch of rows in one buffer; every row holds at least one token.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    ids: &'a [T],
    layout: Layout<'a>,
}

impl<'a, T: Token> Rows<'a, T> {
    /// `count` rows of `length` tokens each, one after another.
    ///
    /// # Errors
    /// No row, no token in a row, or a buffer of another size.
    pub fn equal(ids: &'a [T], count: usize, length: usize) -> Result<Self> {
        if count == 0 || length == 0 {
            return Err(Error::argument(
                "ids",
                format!("an array of shape ({count}, {length})"),
                "at least one row and at least one token in each",
            ));
        }
        if count.checked_mul(length) != Some(ids.len()) {
            return Err(Error::Shape(format!(
                "ids holds {} tokens, which is not {count} rows of {length}",
                ids.len()
            )));
        }
        Ok(Self { ids, layout: Layout::Equal { count, length } })
    }

    /// Row `r` is `ids[offsets[r]..offsets[r + 1]]`.
    ///
    /// # Errors
    /// No row, an empty row, or offsets that do not run from 0 to the number of ids.
    pub fn ragged(ids: &'a [T], offsets: &'a [i64]) -> Result<Self> {
        if offsets.len() < 2 {
            return Err(Error::argument(
                "offsets",
                format!("an array of {}", offsets.len()),
                "at least 2 elements: the start of every row, and the end of the last",
            ));
        }
        if offsets[0] != 0 || usize::try_from(offsets[offsets.len() - 1]) != Ok(ids.len()) {
            return Err(Error::Shape(format!(
                "offsets run from {} to {}, expected from 0 to the {} tokens of ids",
                offsets[0],
                offsets[offsets.len() - 1],
                ids.len()
            )));
        }
        if let Some(row) = offsets.windows(2).position(|pair| pair[1] <= pair[0]) {
            let (start, end) = (offsets[row], offsets[row + 1]);
            return Err(Error::Shape(format!(
                "row {row} runs from offset {start} to {end}, expected at least one token in every row"
            )));
        }
        Ok(Self { ids, layout: Layout::Ragged { offsets } })
    }

    /// Number of rows; never 0.
    pub fn count(&self) -> usize {
        match self.layout {
            Layout::Equal { count, .. } => count,
            Layout::Ragged { offsets } => offsets.len() - 1,
        }
    }

    /// Tokens in row `row`.
    pub fn length(&self, row: usize) -> usize {
        match self.layout {
            Layout::Equal { length, .. } => length,
            Layout::Ragged { offsets } => (offsets[row + 1] - offsets[row]) as usize,
        }
    }

    /// Tokens in the longest row.
    pub fn longest(&self) -> usize {
        match self.layout {
            Layout::Equal { length, .. } => length,
            Layout::Ragged { .. } => (0..self.count()).map(|r| self.length(r)).max().unwrap_or(0),
        }
    }

    /// The tokens of row `row`.
    pub fn row(&self, row: usize) -> &'a [T] {
        match self.layout {
            Layout::Equal { length, .. } => &self.ids[row * length..][..length],
            Layout::Ragged { offsets } => {
                &self.ids[offsets[row] as usize..offsets[row + 1] as usize]
            }
        }
    }
}

/// What names the samples of a batch: ids the caller gives, or else the index of the row.
#[derive(Clone, Copy, Debug)]
pub struct SampleIds<'a>(Option<&'a [i64]>);

impl<'a> SampleIds<'a> {
    /// Checks one id a row.
    ///
    /// # Errors
    /// Another number of ids than rows, or a negative id.
    pub fn new(ids: Option<&'a [i64]>, rows: usize) -> Result<Self> {
        if let Some(ids) = ids {
            if ids.len() != rows {
                return Err(Error::Shape(format!(
                    "sample_ids holds {} ids for {rows} rows, expected one a row",
                    ids.len()
                )));
            }
            if let Some(row) = ids.iter().position(|id| *id < 0) {
                return Err(Error::argument(
                    "sample_ids",
                    format!("{} at row {row}", ids[row]),
                    "0 or more",
                ));
            }
        }
        Ok(Self(ids))
    }

    /// The id of row `row`.
    #[inline]
    pub fn get(&self, row: usize) -> u64 {
        self.0.map_or(row as u64, |ids| ids[row] as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ragged_rows_are_the_slices_between_offsets() {
        let rows = Rows::ragged(&[1u16, 2, 3, 4], &[0, 1, 4]).unwrap();
        assert_eq!((rows.count(), rows.longest()), (2, 3));
        assert_eq!((rows.row(0), rows.row(1)), (&[1u16][..], &[2u16, 3, 4][..]));
    }

    #[test]
    fn bad_layouts_are_refused() {
        let ids = [1u16, 2, 3, 4];
        for (offsets, part) in [
            (&[][..], "at least 2 elements"),
            (&[0], "at least 2 elements"),
            (&[0, 3], "expected from 0 to the 4 tokens"),
            (&[1, 4], "offsets run from 1 to 4"),
            (&[0, i64::MIN], "expected from 0"),
            (&[0, 2, 2, 4], "row 1 runs from offset 2 to 2"),
            (&[0, 9, -3, 4], "row 1 runs from offset 9 to -3"),
        ] {
            let message = Rows::ragged(&ids, offsets).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        // The overshooting offset comes first here, and must not be sliced.
        assert!(Rows::ragged(&ids, &[0, 9, 4]).is_err());
        for (count, length) in [(0, 4), (4, 0), (3, 1), (usize::MAX, 2)] {
            assert!(Rows::equal(&ids, count, length).is_err());
        }
        assert!(SampleIds::new(Some(&[1]), 2).is_err());
        assert!(SampleIds::new(Some(&[1, -1]), 2).is_err());
    }
}
