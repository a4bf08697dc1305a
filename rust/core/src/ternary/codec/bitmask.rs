//! A bitmask followed by packed signs (docs/expert-format.md, section 6).

use super::keys::{BLOCK, TakeKeys};
use crate::simd::Lanes;
use crate::simd::quads::nibbles_together;
use crate::{Error, Result, memory};

/// Encodes the keys of a stream of `trits` trits; the bytes are padded to a multiple of 16.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
#[inline(always)]
pub(super) fn encode<L: Lanes>(keys: &[u8], trits: usize) -> Result<Vec<u8>> {
    // A mask bit and a sign for each trit, rounded up three times.
    let mut bytes = memory::with_room(trits / 4 + 32)?;
    let mut signs = SignWriter { bytes: memory::with_room(trits / 8 + 16)?, word: 0, used: 0 };
    for eight in keys.chunks(8) {
        let mut word = [0; 8];
        word[..eight.len()].copy_from_slice(eight);
        let word = u64::from_le_bytes(word);
        let (mask, negative) = (nibbles_together(word), nibbles_together(word >> 4));
        bytes.extend_from_slice(&mask.to_le_bytes());
        signs.push(L::extract(negative, mask), mask.count_ones());
    }
    bytes.append(&mut signs.finish());
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    Ok(bytes)
}

/// Number of bytes that [`encode`] writes for this many trits.
pub(super) fn encoded_len(trits: usize, nonzeros: u64) -> usize {
    (4 * trits.div_ceil(32) + nonzeros.div_ceil(8) as usize).next_multiple_of(16)
}

/// Decodes one stream of `trits` trits, and passes the keys of their quads to `sink` in blocks.
///
/// # Errors
/// [`Error::Format`] if the length of the mask or of the signs does not match `trits` and the mask,
/// or a bit past the end is set. Also any error that `sink` returns.
#[inline(always)]
pub(super) fn decode<L: Lanes>(
    stream: &[u8],
    trits: usize,
    sink: &mut impl TakeKeys,
) -> Result<()> {
    let mask_bytes = 4 * trits.div_ceil(32);
    let (mask, signs) = stream.split_at_checked(mask_bytes).ok_or_else(|| {
        damaged(format!("has {} bytes, but its mask needs {mask_bytes}", stream.len()))
    })?;
    let (words, _) = mask.as_chunks::<4>();
    let nonzeros: u64 = words.iter().map(|w| u64::from(u32::from_le_bytes(*w).count_ones())).sum();
    if encoded_len(trits, nonzeros) != stream.len() {
        return Err(damaged(format!(
            "has {} bytes, which do not match its {nonzeros} signs",
            stream.len()
        )));
    }
    let past = words.last().filter(|_| !trits.is_multiple_of(32));
    if past.is_some_and(|word| u32::from_le_bytes(*word) >> (trits % 32) != 0) {
        return Err(damaged("has a mask bit past its end".into()));
    }
    let (mut next, mut left) = (0, trits.div_ceil(4));
    for words in words.chunks(BLOCK / 8) {
        let mut block = [0; BLOCK];
        for (word, keys) in words.iter().zip(block.as_chunks_mut::<8>().0) {
            let mask = u32::from_le_bytes(*word);
            *keys = L::keys_of_bits(mask, bits(signs, next)).to_le_bytes();
            next += mask.count_ones() as usize;
        }
        let count = left.min(8 * words.len());
        sink.take(&block[..count])?;
        left -= count;
    }
    // `next` is now `nonzeros`, and the length check above ensures that `signs` has that many bits.
    let mut rest = signs[next / 8..].iter();
    let first = rest.next().is_some_and(|byte| byte >> (next % 8) != 0);
    if first || rest.any(|byte| *byte != 0) {
        return Err(damaged("has a sign bit past its last sign".into()));
    }
    Ok(())
}

/// Returns the 32 bits that start at bit `at`; bits past the end are zero.
#[inline(always)]
fn bits(bytes: &[u8], at: usize) -> u32 {
    let rest = bytes.get(at / 8..).unwrap_or_default();
    let word = if let Some(eight) = rest.first_chunk::<8>() {
        *eight
    } else {
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        eight
    };
    (u64::from_le_bytes(word) >> (at % 8)) as u32
}

/// Appends runs of bits to each other.
struct SignWriter {
    bytes: Vec<u8>,
    word: u64,
    used: u32,
}

impl SignWriter {
    /// Appends the lowest `count` bits, at most 32; the bits above them must be zero.
    #[inline(always)]
    fn push(&mut self, bits: u32, count: u32) {
        // Fewer than 32 bits are waiting in `word`.
        self.word |= u64::from(bits) << self.used;
        self.used += count;
        if self.used >= 32 {
            self.bytes.extend_from_slice(&(self.word as u32).to_le_bytes());
            self.word >>= 32;
            self.used -= 32;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let rest = self.used.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.word.to_le_bytes()[..rest]);
        self.bytes
    }
}

fn damaged(reason: String) -> Error {
    Error::Format(format!("a bitmask stream {reason}: the packed bytes are damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Job, Level};

    const LEVELS: [Level; 3] = [Level::Scalar, Level::Avx2, Level::Avx512];

    struct Encode<'a>(&'a [u8], usize);
    impl Job for Encode<'_> {
        type Output = Vec<u8>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u8> {
            encode::<L>(self.0, self.1).unwrap()
        }
    }

    struct Decode<'a>(&'a [u8], usize);
    impl Job for Decode<'_> {
        type Output = Result<Vec<u8>>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Self::Output {
            let mut keys = Vec::new();
            decode::<L>(self.0, self.1, &mut keys)?;
            Ok(keys)
        }
    }

    #[test]
    fn worked_by_hand() {
        // 34 trits: -1 at 0, 1 at 3, -1 at 33.
        let mut keys = [0; 9];
        (keys[0], keys[8]) = (0b0001_1001, 0b0010_0010);
        for level in LEVELS {
            let bytes = level.run(Encode(&keys, 34));
            assert_eq!(bytes, [9, 0, 0, 0, 2, 0, 0, 0, 0b101, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(level.run(Decode(&bytes, 34)).unwrap(), keys);
        }
    }

    #[test]
    fn bits_past_the_end_are_noticed() {
        // 1, 0, -1.
        let bytes = Level::Scalar.run(Encode(&[0b0100_0101], 3));
        for level in LEVELS {
            for (byte, bit) in [(0, 3), (3, 7), (4, 2), (5, 0), (15, 7)] {
                let mut other = bytes.clone();
                other[byte] ^= 1 << bit;
                assert!(level.run(Decode(&other, 3)).is_err(), "{byte} {bit}");
            }
            assert!(level.run(Decode(&bytes[..8], 3)).is_err());
            assert!(level.run(Decode(&bytes, 3)).is_ok());
        }
    }

    #[test]
    fn signs_of_every_count() {
        let keys: Vec<u8> = (0..4000u32)
            .map(|i| {
                let mask = (i * i * 7 + i / 16) as u8 & 15;
                mask | (mask & (i * 5) as u8 & 15) << 4
            })
            .collect();
        for trits in [15_990usize, 16_000] {
            let mut keys = keys.clone();
            keys.truncate(trits.div_ceil(4));
            if trits % 4 != 0 {
                *keys.last_mut().unwrap() = 0;
            }
            let bytes = Level::Scalar.run(Encode(&keys, trits));
            for level in LEVELS {
                assert_eq!(level.run(Encode(&keys, trits)), bytes);
                assert_eq!(level.run(Decode(&bytes, trits)).unwrap(), keys);
            }
        }
    }
}
