//! Batches of rows of token ids.

use super::ids::Token;
use crate::{Error, Result};

/// The layout of the rows.
#[derive(Clone, Copy, Debug)]
enum Layout<'a, T> {
    Equal { count: usize, length: usize },
    Ragged { offsets: &'a [i64] },
    Separate { rows: &'a [(&'a [T], usize)] },
}

/// A batch of rows, each with at least one token.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    ids: &'a [T],
    layout: Layout<'a, T>,
}

impl<'a, T: Token> Rows<'a, T> {
    /// Takes `count` consecutive rows of `length` tokens each.
    ///
    /// # Errors
    /// If `count` or `length` is 0, or `ids` does not have `count * length` tokens.
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

    /// Takes rows of different lengths: row `r` is `ids[offsets[r]..offsets[r + 1]]`.
    ///
    /// # Errors
    /// If there are no rows, a row is empty, or the offsets do not run from 0 to the number of ids.
    pub fn ragged(ids: &'a [T], offsets: &'a [i64]) -> Result<Self> {
        if offsets.len() < 2 {
            return Err(Error::argument(
                "offsets",
                format!("an array of {} elements", offsets.len()),
                "at least 2 elements: the start of every row and the end of the last",
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

    /// Takes rows from separate slices: each row is the given number of ids at the start of its
    /// slice, which may be longer.
    ///
    /// # Errors
    /// If there are no rows, or a row is empty or longer than its slice.
    pub fn apart(rows: &'a [(&'a [T], usize)]) -> Result<Self> {
        if rows.is_empty() {
            return Err(Error::argument("ids", "0 rows", "at least one row"));
        }
        if let Some(row) = rows.iter().position(|(ids, n)| *n == 0 || *n > ids.len()) {
            let (ids, length) = rows[row];
            return Err(Error::Shape(format!(
                "row {row} has {length} tokens of a slice of {}, expected at least one and no more than the slice",
                ids.len()
            )));
        }
        Ok(Self { ids: &[], layout: Layout::Separate { rows } })
    }

    /// Number of rows, which is never 0.
    pub fn count(&self) -> usize {
        match self.layout {
            Layout::Equal { count, .. } => count,
            Layout::Ragged { offsets } => offsets.len() - 1,
            Layout::Separate { rows } => rows.len(),
        }
    }

    /// Number of tokens in all rows.
    pub fn tokens(&self) -> usize {
        self.start(self.count())
    }

    /// Number of tokens in the rows before `row`.
    pub fn start(&self, row: usize) -> usize {
        match self.layout {
            Layout::Equal { length, .. } => row * length,
            Layout::Ragged { offsets } => offsets[row] as usize,
            Layout::Separate { rows } => rows[..row].iter().map(|(_, length)| length).sum(),
        }
    }

    /// Number of tokens in row `row`.
    #[inline(always)]
    pub fn length(&self, row: usize) -> usize {
        match self.layout {
            Layout::Equal { length, .. } => length,
            Layout::Ragged { offsets } => (offsets[row + 1] - offsets[row]) as usize,
            Layout::Separate { rows } => rows[row].1,
        }
    }

    /// Number of tokens in the longest row.
    pub fn longest(&self) -> usize {
        match self.layout {
            Layout::Equal { length, .. } => length,
            _ => (0..self.count()).map(|row| self.length(row)).max().unwrap_or(0),
        }
    }

    /// The tokens of row `row`.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [T] {
        let (ids, length) = self.from_row(row);
        &ids[..length]
    }

    /// The tokens of row `row` and everything after them in the same buffer, and the length of the
    /// row.
    #[inline(always)]
    pub fn from_row(&self, row: usize) -> (&'a [T], usize) {
        match self.layout {
            Layout::Equal { length, .. } => (&self.ids[row * length..], length),
            Layout::Ragged { offsets } => (&self.ids[offsets[row] as usize..], self.length(row)),
            Layout::Separate { rows } => rows[row],
        }
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
    }
}
