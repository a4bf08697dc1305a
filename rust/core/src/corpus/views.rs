//! Borrows rows of a corpus in place, so that a batch is made without copying its text.

use super::{Corpus, Gathered};
use crate::{Error, Result, memory};

/// Number of tokens that the slice of a row contains after the row, if the file has them: kernels
/// copy whole blocks.
const BEHIND: usize = 64;

impl Corpus {
    /// Borrows rows `[starts[r], ends[r])` of the text from the maps. Rows that cannot be borrowed,
    /// because they cross files or their file has a different width, are copied to `owned`.
    ///
    /// # Errors
    /// If a range leaves the corpus, or a token is not below `vocab_size`.
    pub fn views<'a, T: Gathered>(
        &'a self,
        starts: &[i64],
        ends: &[i64],
        vocab_size: Option<i64>,
        owned: &'a mut Vec<T>,
    ) -> Result<Vec<(&'a [T], usize)>> {
        let lengths = self.lengths(starts, ends)?;
        let ranges = || starts.iter().map(|start| *start as usize).zip(&lengths);
        let borrow = |start, length: usize| {
            self.slice::<T>(start, length + BEHIND).or_else(|| self.slice(start, length))
        };
        let borrowed = memory::collect(ranges().map(|(start, length)| borrow(start, *length)))?;
        let missing = borrowed.iter().zip(&lengths).filter(|(row, _)| row.is_none());
        *owned = memory::zeros(missing.map(|(_, length)| length).sum())?;
        let mut rest = owned.as_mut_slice();
        for ((start, length), row) in ranges().zip(&borrowed) {
            if row.is_none() {
                let (copy, later) = rest.split_at_mut(*length);
                self.read(start, copy)?;
                rest = later;
            }
        }
        let mut copies = owned.as_slice();
        let mut rows = memory::with_room(lengths.len())?;
        for ((row, start), length) in borrowed.into_iter().zip(starts).zip(lengths) {
            let ids = row.unwrap_or_else(|| {
                let (copy, later) = copies.split_at(length);
                copies = later;
                copy
            });
            if let Some(size) = vocab_size {
                self.check_vocabulary(&ids[..length], *start as usize, size)?;
            }
            rows.push((ids, length));
        }
        Ok(rows)
    }

    /// Returns the lengths of rows, which are checked before any memory is allocated for them.
    ///
    /// # Errors
    /// If a range leaves the corpus, or a file that it reads was cut off.
    pub fn lengths(&self, starts: &[i64], ends: &[i64]) -> Result<Vec<usize>> {
        if starts.len() != ends.len() {
            return Err(Error::Shape(format!(
                "there are {} starts and {} ends, expected one of each for every row",
                starts.len(),
                ends.len()
            )));
        }
        let tokens = self.tokens();
        let length = |(start, end): (&i64, &i64)| {
            if *start < 0 || end < start || *end as usize > tokens {
                return Err(Error::Shape(format!(
                    "tokens {start} to {end} are not a range of the corpus of {tokens} tokens"
                )));
            }
            Ok((end - start) as usize)
        };
        let mut lengths = memory::with_room(starts.len())?;
        for row in starts.iter().zip(ends) {
            lengths.push(length(row)?);
        }
        self.check_lengths(starts, ends)?;
        Ok(lengths)
    }

    fn check_vocabulary<T: Gathered>(&self, ids: &[T], start: usize, size: i64) -> Result<()> {
        if T::all_within(ids, 0, size) {
            return Ok(());
        }
        let place = ids.iter().position(|id| id.widen() >= size).unwrap_or(0);
        Err(Error::Format(format!(
            "token {} of the text is {}, expected ids below vocab_size {size}: the corpus was made with a \
             different tokenizer ({})",
            start + place,
            ids[place].widen(),
            self.tokenizer()
        )))
    }
}
