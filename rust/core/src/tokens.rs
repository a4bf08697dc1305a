//! Token ids as callers hold them: four integer types, equal rows or ragged rows of one buffer.

use crate::{Error, Result};

/// An integer type that token ids come in.
pub trait Token: Copy + Send + Sync + 'static {
    /// The id as a 64-bit integer.
    fn widen(self) -> i64;

    /// Whether every id is in `first..end`, at the ids' own width and without an early exit, so that
    /// the loop is one vector comparison after another. `first` is not negative.
    fn all_within(ids: &[Self], first: i64, end: i64) -> bool;

    /// A byte for every id: 1 where it is outside of `first..end`, 0 elsewhere; `first` is not
    /// negative.
    fn mark_outside(ids: &[Self], first: i64, end: i64, marks: &mut [u8]);
}

/// An integer type that batches are written in.
pub trait Id: Copy + Send + Sync + 'static {
    /// The largest id.
    const MAX: i64;

    /// The id; what is above [`Self::MAX`] is cut, so the caller has looked before.
    fn from_i64(id: i64) -> Self;

    /// The same from a token.
    #[inline(always)]
    fn from_token<T: Token>(token: T) -> Self {
        Self::from_i64(token.widen())
    }
}

impl Id for i32 {
    const MAX: i64 = Self::MAX as i64;

    #[inline(always)]
    fn from_i64(id: i64) -> Self {
        id as Self
    }
}

impl Id for i64 {
    const MAX: i64 = Self::MAX;

    #[inline(always)]
    fn from_i64(id: i64) -> Self {
        id
    }
}

macro_rules! token {
    ($($type:ty as $bits:ty),*) => {$(
        impl Token for $type {
            #[inline(always)]
            fn widen(self) -> i64 {
                self.into()
            }

            #[inline(always)]
            fn all_within(ids: &[Self], first: i64, end: i64) -> bool {
                let Some((first, size)) = range(first, end, <$type>::MAX as i64) else {
                    return ids.is_empty();
                };
                // Negative ids are large as unsigned ones, and wrap to large ones.
                let outside = |id: &$type| (*id as $bits).wrapping_sub(first as $bits) > size as $bits;
                !ids.iter().fold(false, |any, id| any | outside(id))
            }

            #[inline(always)]
            fn mark_outside(ids: &[Self], first: i64, end: i64, marks: &mut [u8]) {
                let Some((first, size)) = range(first, end, <$type>::MAX as i64) else {
                    return marks.fill(1);
                };
                for (mark, id) in marks.iter_mut().zip(ids) {
                    *mark = u8::from((*id as $bits).wrapping_sub(first as $bits) > size as $bits);
                }
            }
        }
    )*};
}
token!(u16 as u16, u32 as u32, i32 as u32, i64 as u64);

/// The part of `first..end` up to `largest` as its first number and its size less one.
fn range(first: i64, end: i64, largest: i64) -> Option<(i64, i64)> {
    let last = largest.min(end - 1);
    (first <= last).then_some((first, last - first))
}

/// How rows lie in the buffer.
#[derive(Clone, Copy, Debug)]
enum Layout<'a, T> {
    Equal { count: usize, length: usize },
    Ragged { offsets: &'a [i64] },
    Apart { rows: &'a [(&'a [T], usize)] },
}

/// A batch of rows; every row holds at least one token.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    ids: &'a [T],
    layout: Layout<'a, T>,
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

    /// Rows that lie apart: each the first ids of a slice, which may go on behind it.
    ///
    /// # Errors
    /// No row, or one that is empty or longer than its slice.
    pub fn apart(rows: &'a [(&'a [T], usize)]) -> Result<Self> {
        if rows.is_empty() {
            return Err(Error::argument("ids", "0 rows", "at least one row"));
        }
        if let Some(row) = rows.iter().position(|(ids, n)| *n == 0 || *n > ids.len()) {
            let (ids, length) = rows[row];
            return Err(Error::Shape(format!(
                "row {row} has {length} tokens of {}, expected at least one",
                ids.len()
            )));
        }
        Ok(Self { ids: &[], layout: Layout::Apart { rows } })
    }

    /// Number of rows; never 0.
    pub fn count(&self) -> usize {
        match self.layout {
            Layout::Equal { count, .. } => count,
            Layout::Ragged { offsets } => offsets.len() - 1,
            Layout::Apart { rows } => rows.len(),
        }
    }

    /// Tokens in all rows.
    pub fn tokens(&self) -> usize {
        self.start(self.count())
    }

    /// Tokens in the rows before `row`.
    pub fn start(&self, row: usize) -> usize {
        match self.layout {
            Layout::Equal { length, .. } => row * length,
            Layout::Ragged { offsets } => offsets[row] as usize,
            Layout::Apart { rows } => rows[..row].iter().map(|(_, length)| length).sum(),
        }
    }

    /// Tokens in row `row`.
    #[inline(always)]
    pub fn length(&self, row: usize) -> usize {
        match self.layout {
            Layout::Equal { length, .. } => length,
            Layout::Ragged { offsets } => (offsets[row + 1] - offsets[row]) as usize,
            Layout::Apart { rows } => rows[row].1,
        }
    }

    /// Tokens in the longest row.
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

    /// The tokens of row `row` with whatever lies behind it, and the length of the row.
    #[inline(always)]
    pub fn from_row(&self, row: usize) -> (&'a [T], usize) {
        match self.layout {
            Layout::Equal { length, .. } => (&self.ids[row * length..], length),
            Layout::Ragged { offsets } => (&self.ids[offsets[row] as usize..], self.length(row)),
            Layout::Apart { rows } => rows[row],
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
    #[inline(always)]
    pub fn get(&self, row: usize) -> u64 {
        self.0.map_or(row as u64, |ids| ids[row] as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_at_every_width() {
        fn check<T: Token + TryFrom<i64>>(ids: &[i64]) {
            let all: Vec<T> = ids.iter().filter_map(|id| T::try_from(*id).ok()).collect();
            for (first, end) in
                [(0, 1), (3, 9), (5, 5), (0, 1 << 16), (65_535, 1 << 40), (70_000, 80_000)]
            {
                let mut marks = vec![9; all.len()];
                T::mark_outside(&all, first, end, &mut marks);
                for (id, mark) in all.iter().zip(&marks) {
                    let inside = (first..end).contains(&id.widen());
                    assert_eq!(*mark == 0, inside, "{} in {first}..{end}", id.widen());
                    assert_eq!(T::all_within(&[*id], first, end), inside);
                }
            }
        }
        let ids = [-5, -1, 0, 1, 3, 8, 9, 65_535, 65_536, 75_000, 1 << 31, i64::MIN, i64::MAX];
        check::<u16>(&ids);
        check::<u32>(&ids);
        check::<i32>(&ids);
        check::<i64>(&ids);
    }

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
