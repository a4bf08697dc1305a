//! The ids that draws are keyed by.

use crate::{Error, Result};

/// The ids of the samples in a batch: given by the caller, or otherwise the indices of the rows.
#[derive(Clone, Copy, Debug)]
pub struct SampleIds<'a>(Option<&'a [i64]>);

impl<'a> SampleIds<'a> {
    /// Checks the ids, one for each row.
    ///
    /// # Errors
    /// If the number of ids is not the number of rows, or an id is negative.
    pub fn new(ids: Option<&'a [i64]>, rows: usize) -> Result<Self> {
        if let Some(ids) = ids {
            if ids.len() != rows {
                return Err(Error::Shape(format!(
                    "sample_ids holds {} ids for {rows} rows, expected one for each row",
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
    fn one_id_for_each_row_and_none_negative() {
        assert!(SampleIds::new(Some(&[1]), 2).is_err());
        assert!(SampleIds::new(Some(&[1, -1]), 2).is_err());
    }
}
