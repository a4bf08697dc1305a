//! From a packed block to the values of its tensors, each of which has its own scale.

use std::ops::Range;

use super::codec::{Block, Sink, Table, past_the_caches, zero_between};
use crate::simd::Lanes;
use crate::simd::quads::Value;
use crate::{Error, Result, memory};

/// One tensor in the flat sequence of trits.
#[derive(Clone, Copy, Debug)]
pub struct Segment<T> {
    /// The index of its first trit.
    pub start: usize,
    /// The number of its entries.
    pub len: usize,
    /// The values of the trits -1, 0 and +1; `None` leaves this part of `out` unchanged.
    pub values: Option<[T; 3]>,
}

/// Decodes a whole block and writes the values of each segment to its place in `out`.
///
/// # Errors
/// [`Error::Shape`] if the the segments overlap, are not in ascending order, or leave the block, or
/// `out` has a different length; [`Error::Format`] if a stream is damaged, or a trit between the
/// segments is not zero.
pub fn expand<T: Value>(
    block: &Block<'_>,
    segments: &[Segment<T>],
    out: &mut [T],
    num_threads: usize,
) -> Result<()> {
    let mut free = 0;
    for segment in segments {
        let end = segment.start.checked_add(segment.len);
        match end.filter(|end| segment.start >= free && *end <= block.count()) {
            Some(end) => free = end,
            None => {
                return Err(Error::Shape(
                    "the segments overlap, are not in ascending order, or leave the block".into(),
                ));
            }
        }
    }
    if out.len() != block.count() {
        let (n, count) = (out.len(), block.count());
        return Err(Error::Shape(format!("out has {n} elements, the block holds {count} trits")));
    }
    let past = past_the_caches(out);
    let outs: Vec<&mut [T]> = memory::collect(out.chunks_mut(block.stream_len()))?;
    block.decode_streams(outs, num_threads, |first, out| {
        let from = segments.partition_point(|s| s.start + s.len <= first);
        Segments { left: &segments[from..], first, out, past }
    })
}

/// Writes the values of each segment, and checks that all trits between segments are zero.
struct Segments<'a, T> {
    /// The segments that have not ended yet.
    left: &'a [Segment<T>],
    /// Index of the stream's first trit.
    first: usize,
    out: &'a mut [T],
    past: bool,
}

/// Number of recent tables to keep: most experts have two groups, and each block of keys looks for
/// a table.
const TABLES: usize = 4;

impl<T: Value> Sink for Segments<'_, T> {
    type State<L: Lanes> = (Self, Vec<Table<T, L>>);

    #[inline(always)]
    fn start<L: Lanes>(self) -> Self::State<L> {
        (self, Vec::new())
    }

    #[inline(always)]
    fn take<L: Lanes>(state: &mut Self::State<L>, first: usize, keys: &[u8]) -> Result<()> {
        let (this, tables) = state;
        let end = this.out.len().min(first + 4 * keys.len());
        let mut done = first;
        while let Some(segment) = this.left.first() {
            let begin = segment.start.max(this.first + first) - this.first;
            if begin >= end {
                break;
            }
            let stop = (segment.start + segment.len - this.first).min(end);
            check_gap(keys, first, done..begin, this.first)?;
            done = stop;
            if let Some(values) = segment.values {
                let table = tables.iter().position(|table| table.is_of(values));
                let table = table.unwrap_or_else(|| {
                    if tables.len() == TABLES {
                        tables.remove(0);
                    }
                    tables.push(Table::new(values));
                    tables.len() - 1
                });
                tables[table].write(keys, begin - first, &mut this.out[begin..stop], this.past);
            }
            if segment.start + segment.len > this.first + end {
                break;
            }
            this.left = &this.left[1..];
        }
        check_gap(keys, first, done..end, this.first)
    }
}

/// Checks that the trits of a range of the stream are zero; `keys` starts at trit `first`.
fn check_gap(keys: &[u8], first: usize, gap: Range<usize>, stream: usize) -> Result<()> {
    if gap.is_empty() || zero_between(keys, gap.start - first, gap.end - first) {
        return Ok(());
    }
    let nonzero = |trit: &usize| !zero_between(keys, trit - first, trit - first + 1);
    let at = stream + gap.clone().find(nonzero).unwrap_or(gap.start);
    Err(Error::Format(format!(
        "trit {at} is between two tensors but is not zero: the file is damaged"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::codec::{Coding, pack};
    use super::*;
    use crate::simd::Level;

    #[test]
    fn segments_take_their_own_values() {
        let mut trits = vec![0i8; 70_016];
        (trits[0], trits[1], trits[3]) = (1, -1, -1);
        (trits[32], trits[69_999]) = (-1, 1);
        let bytes = pack(&trits, Coding::T4, 512, Level::best(), 2).unwrap();
        let block = Block::parse(&bytes).unwrap();
        let segments = [
            Segment { start: 0, len: 3, values: Some([-2.0, 0.0, 2.0f32]) },
            Segment { start: 3, len: 1, values: None },
            Segment { start: 32, len: 69_968, values: Some([0.5, 1.0, 1.5]) },
        ];
        let mut out = vec![9.0; 70_016];
        expand(&block, &segments, &mut out, 2).unwrap();
        assert_eq!(out[..5], [2.0, -2.0, 0.0, 9.0, 9.0]);
        assert_eq!(
            (out[31], out[32], out[33], out[69_998], out[69_999]),
            (9.0, 0.5, 1.0, 1.0, 1.5)
        );
        assert_eq!(out[70_000..], [9.0; 16]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = pack(&[1, 0, 0, 1, 0], Coding::T4, 512, Level::best(), 1).unwrap();
        let block = Block::parse(&bytes).unwrap();
        let segment = |start, len| Segment { start, len, values: Some([0u8, 1, 2]) };
        let mut out = vec![0; 5];
        assert!(expand(&block, &[segment(0, 4)], &mut out, 1).is_ok());
        assert!(matches!(expand(&block, &[segment(0, 3)], &mut out, 1), Err(Error::Format(_))));
        for segments in
            [vec![segment(0, 6)], vec![segment(2, usize::MAX)], vec![segment(0, 3), segment(2, 2)]]
        {
            assert!(matches!(expand(&block, &segments, &mut out, 1), Err(Error::Shape(_))));
        }
        assert!(expand(&block, &[segment(0, 4)], &mut out[..4], 1).is_err());
    }
}
