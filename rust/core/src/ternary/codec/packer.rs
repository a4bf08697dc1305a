//! Packs trits as they arrive: memory holds the trits of one stream and the bytes of the streams
//! before it.

use super::encode::{Coding, Encode, Stream, assemble, stream_len};
use crate::simd::Level;
use crate::{Error, Result, memory, threads};

/// Packs a sequence of trits that arrives in pieces into the same block as [`super::pack`], byte
/// for byte.
pub struct Packer {
    coding: Coding,
    steps: u32,
    stream_len: usize,
    streams: Vec<Stream>,
    /// The trits of the stream that is not full yet.
    open: Vec<i8>,
}

impl Packer {
    /// Makes a packer without trits.
    ///
    /// # Errors
    /// [`Error::Argument`] if `steps` is not a power of two in 512..=16384.
    pub fn new(coding: Coding, steps: u32) -> Result<Self> {
        let stream_len = stream_len(steps)?;
        Ok(Self { coding, steps, stream_len, streams: Vec::new(), open: Vec::new() })
    }

    /// Number of trits so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams.len() * self.stream_len + self.open.len()
    }

    /// Adds trits, and codes every stream that is full, in parallel if there are several.
    ///
    /// # Errors
    /// [`Error::Argument`] if a trit is not -1, 0 or 1, and [`Error::Memory`] if there is not enough
    /// memory; no trit is added then.
    pub fn push(&mut self, trits: &[i8], level: Level, num_threads: usize) -> Result<()> {
        if let Some(at) = trits.iter().position(|trit| !(-1..=1).contains(trit)) {
            let value = format!("{} at index {}", trits[at], self.count() + at);
            return Err(Error::argument("trits", value, "-1, 0 or 1"));
        }
        let wanted = (self.stream_len - self.open.len()) % self.stream_len;
        let (head, rest) = trits.split_at(wanted.min(trits.len()));
        let whole = rest.len() / self.stream_len * self.stream_len;
        let mut coded = memory::filled(whole / self.stream_len, || None)?;
        let (coding, first) = (self.coding, self.count() + head.len());
        let work = memory::collect(coded.iter_mut().zip(rest.chunks(self.stream_len)))?;
        threads::for_each(num_threads, work, |(slot, trits): (_, &[i8])| {
            *slot = Some(level.run(Encode { trits, first, coding })?);
            Ok(())
        })?;
        memory::grow(&mut self.streams, coded.len() + 1)?;
        let before = self.open.len();
        memory::grow(&mut self.open, self.stream_len - before)?;
        self.open.extend_from_slice(head);
        if self.open.len() == self.stream_len
            && let Err(error) = self.close(level)
        {
            self.open.truncate(before);
            return Err(error);
        }
        self.streams.extend(coded.into_iter().flatten());
        self.open.extend_from_slice(&rest[whole..]);
        Ok(())
    }

    /// Returns the block of all trits.
    ///
    /// # Errors
    /// [`Error::Argument`] if the payload would exceed 64 GiB.
    pub fn finish(mut self, level: Level) -> Result<Vec<u8>> {
        let count = self.count();
        if !self.open.is_empty() {
            self.close(level)?;
        }
        assemble(count, self.steps, &self.streams)
    }

    fn close(&mut self, level: Level) -> Result<()> {
        let first = self.streams.len() * self.stream_len;
        let encode = Encode { trits: &self.open, first, coding: self.coding };
        let stream = level.run(encode)?;
        memory::push(&mut self.streams, stream)?;
        self.open.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pack;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn pieces_make_the_block_of_the_whole(
            pieces in prop::collection::vec(0..90_000usize, 0..6),
            percent in 0..=100u32,
            bitmask: bool,
            threads in 1..4usize,
        ) {
            let coding = if bitmask { Coding::Bitmask } else { Coding::T4 };
            let trit = |i: usize| {
                let draw = (i as u32).wrapping_mul(0x9E37_79B9) >> 8;
                if draw % 100 >= percent { 0 } else { (draw / 100 % 2) as i8 * 2 - 1 }
            };
            let whole: Vec<i8> = (0..pieces.iter().sum()).map(trit).collect();
            let mut packer = Packer::new(coding, 512).unwrap();
            let mut rest = whole.as_slice();
            for piece in pieces {
                let (now, later) = rest.split_at(piece);
                packer.push(now, Level::best(), threads).unwrap();
                rest = later;
            }
            prop_assert_eq!(packer.count(), whole.len());
            let found = packer.finish(Level::best()).unwrap();
            prop_assert_eq!(found, pack(&whole, coding, 512, Level::Scalar, 1).unwrap());
        }
    }

    #[test]
    fn a_bad_trit_is_named_and_nothing_is_added() {
        let mut packer = Packer::new(Coding::T4, 512).unwrap();
        packer.push(&vec![1; 40_000], Level::best(), 1).unwrap();
        let error = packer.push(&[0, 3], Level::best(), 1).unwrap_err().to_string();
        assert_eq!(error, "trits is 3 at index 40001, expected -1, 0 or 1");
        assert_eq!(packer.count(), 40_000);
        assert!(Packer::new(Coding::T4, 7).is_err());
    }
}
