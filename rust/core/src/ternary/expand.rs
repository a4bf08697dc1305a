//! From a packed block to the values of its tensors, each with its own scale.

use super::codec::Block;
use crate::{Error, Result};

/// One tensor inside the flat sequence of trits.
#[derive(Clone, Copy, Debug)]
pub struct Segment<T> {
    /// Its first trit.
    pub start: usize,
    /// Its entries.
    pub len: usize,
    /// What trits -1, 0 and +1 stand for; `None` leaves `out` as it is.
    pub values: Option<[T; 3]>,
}

/// Decodes a whole block and writes each segment's values at its own place of `out`.
///
/// # Errors
/// [`Error::Shape`] if the segments do not ascend inside the block or `out` has another length;
/// [`Error::Format`] if a stream is damaged, or a trit between the segments is not zero.
pub fn expand<T: Copy + Send + Sync>(
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
            None => return Err(Error::Shape("segments do not ascend inside the block".into())),
        }
    }
    if out.len() != block.count() {
        let (n, count) = (out.len(), block.count());
        return Err(Error::Shape(format!("out has {n} elements, the block holds {count} trits")));
    }
    let outs: Vec<&mut [T]> = out.chunks_mut(block.stream_len()).collect();
    block.for_each_stream(outs, num_threads, |first, trits, out| {
        let mut done = 0;
        let from = segments.partition_point(|s| s.start + s.len <= first);
        for segment in &segments[from..] {
            let start = segment.start.max(first) - first;
            if start >= trits.len() {
                break;
            }
            let end = (segment.start + segment.len - first).min(trits.len());
            check_gap(&trits[done..start], first + done)?;
            if let Some(values) = segment.values {
                for (slot, trit) in out[start..end].iter_mut().zip(&trits[start..end]) {
                    *slot = values[(trit + 1) as usize];
                }
            }
            done = end;
        }
        check_gap(&trits[done..], first + done)
    })
}

fn check_gap(trits: &[i8], first: usize) -> Result<()> {
    match trits.iter().position(|trit| *trit != 0) {
        None => Ok(()),
        Some(i) => Err(Error::Format(format!(
            "trit {} lies between two tensors and is not zero: the file is damaged",
            first + i
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{Coding, pack};
    use super::*;

    #[test]
    fn segments_take_their_own_values() {
        let mut trits = vec![0i8; 70_016];
        (trits[0], trits[1], trits[3]) = (1, -1, -1);
        (trits[32], trits[69_999]) = (-1, 1);
        let bytes = pack(&trits, Coding::T4, 512, 2).unwrap();
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
        let bytes = pack(&[1, 0, 0, 1, 0], Coding::T4, 512, 1).unwrap();
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
