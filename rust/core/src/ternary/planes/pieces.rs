//! Pieces of the flat sequence of trits, each with its own table.

use super::decode::Planes;
use crate::{Error, Result};

/// The most experts that one call takes: a combination is a 16-bit number with two bits per expert.
pub const MAX_EXPERTS: usize = 8;

/// A range of the flat sequence whose combinations share one table.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The first trit.
    pub start: usize,
    /// The number of trits.
    pub len: usize,
    /// The number of the table.
    pub table: usize,
}

/// Iterates over the parts of pieces that are inside a share of the trits.
pub(super) struct Parts<'a> {
    left: &'a [Piece],
    first: usize,
    len: usize,
}

/// A part of a piece, as positions relative to the share's first trit.
pub(super) struct Part {
    pub from: usize,
    pub to: usize,
    pub table: usize,
}

impl<'a> Parts<'a> {
    pub fn new(pieces: &'a [Piece], first: usize, len: usize) -> Self {
        let from = pieces.partition_point(|piece| piece.start + piece.len <= first);
        Self { left: &pieces[from..], first, len }
    }
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let (piece, left) = self.left.split_first()?;
        if piece.start >= self.first + self.len {
            return None;
        }
        self.left = left;
        let from = piece.start.max(self.first) - self.first;
        let to = (piece.start + piece.len - self.first).min(self.len);
        Some(Part { from, to, table: piece.table })
    }
}

/// Checks that planes and pieces have the sizes that a call needs.
pub(super) fn check(
    experts: &[Planes<'_>],
    pieces: &[Piece],
    tables: usize,
    len: usize,
) -> Result<()> {
    if experts.is_empty() || experts.len() > MAX_EXPERTS {
        let count = experts.len();
        return Err(Error::Shape(format!(
            "there are {count} experts, expected 1 to {MAX_EXPERTS}"
        )));
    }
    let words = len.div_ceil(64);
    if experts.iter().any(|e| e.mask.len() != words || e.negative.len() != words) {
        return Err(Error::Shape(format!(
            "a plane does not have the {words} words that {len} trits need"
        )));
    }
    let mut free = 0;
    for piece in pieces {
        let end = piece.start.checked_add(piece.len);
        match end.filter(|end| piece.start >= free && *end <= len && piece.table < tables) {
            Some(end) => free = end,
            None => return Err(Error::Shape(
                "the pieces overlap, are not in ascending order, or leave the trits or the tables"
                    .into(),
            )),
        }
    }
    Ok(())
}
