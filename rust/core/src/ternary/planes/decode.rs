//! Decodes a packed block to planes of bits.

use super::super::codec::{Block, Sink};
use crate::simd::Lanes;
use crate::simd::quads::nibbles_together;
use crate::{Error, Result, memory};

/// The trits of an expert as two planes of bits: bit i of word w stands for trit 64 w + i.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// Which trits are not zero.
    pub mask: &'a [u64],
    /// Which trits are negative.
    pub negative: &'a [u64],
}

/// Decodes a block to its planes, which have `ceil(count / 64)` words each.
///
/// # Errors
/// [`Error::Shape`] if a plane has a different length, [`Error::Format`] if a stream is damaged.
pub fn planes(
    block: &Block<'_>,
    mask: &mut [u64],
    negative: &mut [u64],
    num_threads: usize,
) -> Result<()> {
    let words = block.count().div_ceil(64);
    if mask.len() != words || negative.len() != words {
        let (a, b) = (mask.len(), negative.len());
        return Err(Error::Shape(format!(
            "the planes have {a} and {b} words, expected {words} words each"
        )));
    }
    let words = block.stream_len() / 64;
    let outs = memory::collect(mask.chunks_mut(words).zip(negative.chunks_mut(words)))?;
    block.decode_streams(outs, num_threads, |_, (mask, negative)| ToPlanes { mask, negative })
}

struct ToPlanes<'a> {
    mask: &'a mut [u64],
    negative: &'a mut [u64],
}

impl Sink for ToPlanes<'_> {
    type State<L: Lanes> = Self;

    #[inline(always)]
    fn start<L: Lanes>(self) -> Self {
        self
    }

    #[inline(always)]
    fn take<L: Lanes>(state: &mut Self, first: usize, keys: &[u8]) -> Result<()> {
        // Blocks of keys begin at multiples of 64 trits.
        let from = first / 64;
        let places = state.mask[from..].iter_mut().zip(&mut state.negative[from..]);
        for (sixteen, (mask, negative)) in keys.chunks(16).zip(places) {
            let mut bytes = [0; 16];
            bytes[..sixteen.len()].copy_from_slice(sixteen);
            let (halves, _) = bytes.as_chunks::<8>();
            let [low, high] = [halves[0], halves[1]].map(u64::from_le_bytes);
            *mask = u64::from(nibbles_together(low)) | u64::from(nibbles_together(high)) << 32;
            let [low, high] = [low >> 4, high >> 4].map(nibbles_together).map(u64::from);
            *negative = low | high << 32;
        }
        Ok(())
    }
}
