//! T4-rANS: four trits per symbol and 64 interleaved rANS states (docs/expert-format.md, section
//! 5).
//!
//! After Duda, "Asymmetric numeral systems" (arXiv 1311.2540), with the interleaving of Giesen
//! (arXiv 1402.3392). The decoder reads untrusted bytes, so every word is bounds-checked.

use super::frequencies::{best_class, class};
use super::keys::{BLOCK, TakeKeys, symbols_of_keys};
use crate::simd::Lanes;
use crate::simd::quads::{Encoder, KINDS, ROW, WORD_SLACK};
use crate::{Error, Result, memory};

/// Number of states of a stream: state i codes the quads i, 64 + i, 128 + i, ...
pub const STATES: usize = ROW;
/// Lower bound of a state between symbols.
const LOWER: u32 = 1 << 16;
const STATE_BYTES: usize = 4 * STATES;

/// Returns the density class that fits quads of these kinds best, and the size of their stream to
/// within a few bytes.
pub(super) fn plan(mut kinds: [u64; KINDS]) -> (u8, u64) {
    // Quads past the end are coded too.
    let quads: u64 = kinds.iter().sum();
    kinds[0] += quads.next_multiple_of(STATES as u64) - quads;
    let (class, bits) = best_class(&kinds);
    (class, STATE_BYTES as u64 + bits.div_ceil(8))
}

/// Encodes the keys of one stream with a density class; the bytes are padded to a multiple of 16.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
#[inline(always)]
pub(super) fn encode<L: Lanes>(keys: &[u8], index: u8) -> Result<Vec<u8>> {
    let encoder = Encoder::new(&class(index));
    let symbols = symbols_of_keys(keys, STATES)?;
    let mut states = [LOWER; STATES];
    // The last row is coded first, and its words come last. A symbol takes at most 14 bits and so
    // never more than one word.
    let mut words = memory::zeros::<u16>(symbols.len())?;
    let mut free = words.len();
    for row in symbols.as_chunks::<STATES>().0.iter().rev() {
        let mut coded = [0; STATES + WORD_SLACK];
        let count = L::encode_row(&encoder, &mut states, row, &mut coded);
        words[free - count..free].copy_from_slice(&coded[..count]);
        free -= count;
    }
    let words = &words[free..];
    let mut bytes = memory::with_room::<u8>((STATE_BYTES + 2 * words.len()).next_multiple_of(16))?;
    bytes.extend(states.iter().flat_map(|state| state.to_le_bytes()));
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    Ok(bytes)
}

/// Decodes one stream of `quads` quads, and passes their keys to `sink` in blocks of a few rows.
///
/// # Errors
/// [`Error::Format`] if the stream is damaged: a state is below its bound, a word is missing or
/// left over, a final state is not 2^16, or padding or a quad past the end is not zero. Also any
/// error that `sink` returns.
#[inline(always)]
pub(super) fn decode<L: Lanes>(
    stream: &[u8],
    index: u8,
    quads: usize,
    sink: &mut impl TakeKeys,
) -> Result<()> {
    let decoder = L::decoder(&class(index));
    let (head, words) = stream.split_at_checked(STATE_BYTES).ok_or_else(|| {
        damaged(format!(
            "has {} bytes, expected at least {STATE_BYTES} for its states",
            stream.len()
        ))
    })?;
    let mut states = [0u32; STATES];
    for (state, bytes) in states.iter_mut().zip(head.as_chunks().0) {
        *state = u32::from_le_bytes(*bytes);
        if *state < LOWER {
            return Err(damaged(format!("has the state {state}, expected at least {LOWER}")));
        }
    }
    let (words, odd) = words.as_chunks::<2>();
    let mut used = 0;
    let mut left = quads;
    while left > 0 {
        let mut block = [0; BLOCK];
        let count = left.min(BLOCK);
        let rows = count.div_ceil(STATES);
        for row in &mut block.as_chunks_mut::<STATES>().0[..rows] {
            // A row takes at most 64 words. Near the end they come from a copy that is filled up
            // with zeros.
            let rest = words.get(used..).unwrap_or_default();
            if let Some(window) = rest.first_chunk() {
                used += L::decode_row(&decoder, &mut states, window, row);
            } else {
                let mut window = [[0; 2]; STATES];
                window[..rest.len()].copy_from_slice(rest);
                used += L::decode_row(&decoder, &mut states, &window, row);
            }
        }
        if block[count..].iter().any(|key| *key != 0) {
            return Err(damaged("has a nonzero quad past its end".into()));
        }
        sink.take(&block[..count])?;
        left -= count;
    }
    if used > words.len() {
        return Err(damaged("ends before its last word".into()));
    }
    if states.iter().any(|state| *state != LOWER) {
        return Err(damaged("does not end in its first state".into()));
    }
    let rest = &words[used..];
    if rest.len() >= 8 || rest.iter().flatten().chain(odd).any(|byte| *byte != 0) {
        return Err(damaged("has bytes after its last word".into()));
    }
    Ok(())
}

fn damaged(reason: String) -> Error {
    Error::Format(format!("a T4-rANS stream {reason}: the packed bytes are damaged"))
}

#[cfg(test)]
mod tests {
    use super::super::keys::kinds_of_keys;
    use super::*;
    use crate::simd::quads::KEYS;
    use crate::simd::{Job, Level};

    const LEVELS: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Avx512];

    struct Encode<'a>(&'a [u8], u8);
    impl Job for Encode<'_> {
        type Output = Vec<u8>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u8> {
            encode::<L>(self.0, self.1).unwrap()
        }
    }

    struct Decode<'a>(&'a [u8], u8, usize);
    impl Job for Decode<'_> {
        type Output = Result<Vec<u8>>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Self::Output {
            let mut keys = Vec::new();
            decode::<L>(self.0, self.1, self.2, &mut keys)?;
            Ok(keys)
        }
    }

    #[test]
    fn a_stream_worked_by_hand() {
        // One row of zero quads under class 0: f = 16304 at slot 0. 65536 = 4 * 16304 + 320, so
        // each state becomes 4 * 16384 + 320 = 65856 without a word.
        assert_eq!(plan(kinds_of_keys(&[0; 64])).0, 0);
        for level in LEVELS {
            let bytes = level.run(Encode(&[0; 64], 0));
            assert_eq!(bytes.len(), 256);
            assert!(bytes.chunks(4).all(|state| state == 65_856u32.to_le_bytes()));
            assert_eq!(level.run(Decode(&bytes, 0, 64)).unwrap(), [0; 64]);
        }
    }

    #[test]
    fn every_symbol_in_every_lane_and_class() {
        for quads in [1usize, 2, 63, 64, 65, 81 * 64 + 1] {
            let keys: Vec<u8> = (0..quads).map(|i| KEYS[(i + i / 81) % 81]).collect();
            for class in [0, 1, 100, 255, plan(kinds_of_keys(&keys)).0] {
                let bytes = Level::Scalar.run(Encode(&keys, class));
                for level in LEVELS {
                    assert_eq!(level.run(Encode(&keys, class)), bytes);
                    assert_eq!(level.run(Decode(&bytes, class, quads)).unwrap(), keys);
                }
            }
        }
    }

    #[test]
    fn a_length_that_is_not_the_streams_is_noticed() {
        let keys: Vec<u8> = (0..750).map(|i| KEYS[i * i % 81]).collect();
        let (class, _) = plan(kinds_of_keys(&keys));
        let bytes = Level::Scalar.run(Encode(&keys, class));
        for level in LEVELS {
            for quads in [0usize, 1, 64, 640, 749, 832, 1500] {
                assert!(level.run(Decode(&bytes, class, quads)).is_err(), "{quads}");
            }
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let keys: Vec<u8> = (0..300).map(|i| KEYS[i * i % 9]).collect();
        let (class, _) = plan(kinds_of_keys(&keys));
        let bytes = Level::Scalar.run(Encode(&keys, class));
        for level in LEVELS {
            // Padding may be cut off here, because the block's index determines the length of a
            // stream.
            let padding = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            for end in 0..bytes.len() - padding {
                assert!(level.run(Decode(&bytes[..end], class, 300)).is_err(), "{end}");
            }
        }
    }
}
