//! Bitmask and packed signs (docs/expert-format.md, section 6).

use crate::{Error, Result};

/// Encodes the trits of one stream; the bytes are padded to a multiple of 16.
pub fn encode(trits: &[i8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(trits.len() / 4 + 32);
    let mut signs = SignWriter::default();
    for chunk in trits.chunks(32) {
        let mut word = 0u32;
        for (j, trit) in chunk.iter().enumerate() {
            let present = u32::from(*trit != 0);
            word |= present << j;
            signs.push(present, *trit < 0);
        }
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.append(&mut signs.finish());
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    bytes
}

/// Bytes that `encode` needs for this many trits.
pub fn encoded_len(trits: usize, nonzeros: u64) -> usize {
    (4 * trits.div_ceil(32) + nonzeros.div_ceil(8) as usize).next_multiple_of(16)
}

/// Decodes one stream into `out`; `values` are those of trits -1, 0 and +1.
///
/// Returns the number of nonzero trits.
///
/// # Errors
/// [`Error::Format`] if the mask and the signs do not have the length that `out` and the mask ask
/// for, or a bit past the end is set.
pub fn decode<T: Copy>(stream: &[u8], values: &[T; 3], out: &mut [T]) -> Result<u64> {
    let mask_bytes = 4 * out.len().div_ceil(32);
    let (mask, signs) = stream
        .split_at_checked(mask_bytes)
        .ok_or_else(|| damaged(format!("{} bytes, its mask needs {mask_bytes}", stream.len())))?;
    let (words, _) = mask.as_chunks::<4>();
    let nonzeros: u64 = words.iter().map(|w| u64::from(u32::from_le_bytes(*w).count_ones())).sum();
    if encoded_len(out.len(), nonzeros) != stream.len() {
        return Err(damaged(format!("{} bytes do not fit {nonzeros} signs", stream.len())));
    }
    let mut next = 0usize;
    for (chunk, word) in out.chunks_mut(32).zip(words) {
        let word = u32::from_le_bytes(*word);
        if chunk.len() < 32 && word >> chunk.len() != 0 {
            return Err(damaged("a mask bit past the end is set".into()));
        }
        for (j, slot) in chunk.iter_mut().enumerate() {
            let present = (word >> j & 1) as usize;
            // In bounds: fewer than `nonzeros` signs were taken, or the bit is not looked at.
            let sign = signs.get(next / 8).map_or(0, |byte| byte >> (next % 8) & 1);
            *slot = if present == 0 { values[1] } else { values[2 - 2 * usize::from(sign)] };
            next += present;
        }
    }
    let past = signs.iter().enumerate().any(|(i, byte)| match (i + 1) * 8 {
        end if end <= next => false,
        _ if i * 8 >= next => *byte != 0,
        _ => byte >> (next % 8) != 0,
    });
    if past { Err(damaged("a sign bit past the last is set".into())) } else { Ok(nonzeros) }
}

/// Packs sign bits without a branch on the data.
#[derive(Default)]
struct SignWriter {
    bytes: Vec<u8>,
    word: u64,
    used: u32,
}

impl SignWriter {
    #[inline]
    fn push(&mut self, present: u32, negative: bool) {
        self.word |= u64::from(negative) << self.used;
        self.used += present;
        if self.used == 64 {
            self.bytes.extend_from_slice(&self.word.to_le_bytes());
            (self.word, self.used) = (0, 0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let rest = self.used.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.word.to_le_bytes()[..rest]);
        self.bytes
    }
}

fn damaged(what: String) -> Error {
    Error::Format(format!("a bitmask stream: {what}: the packed bytes are damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let mut trits = [0i8; 34];
        trits[0] = -1;
        trits[3] = 1;
        trits[33] = -1;
        let bytes = encode(&trits);
        assert_eq!(bytes, [9, 0, 0, 0, 2, 0, 0, 0, 0b101, 0, 0, 0, 0, 0, 0, 0]);
        let mut out = [7i8; 34];
        assert_eq!(decode(&bytes, &[-1, 0, 1], &mut out).unwrap(), 3);
        assert_eq!(out, trits);
    }

    #[test]
    fn bits_past_the_end_are_noticed() {
        let bytes = encode(&[1, 0, -1]);
        for (byte, bit) in [(0, 3), (3, 7), (4, 2), (5, 0), (15, 7)] {
            let mut other = bytes.clone();
            other[byte] ^= 1 << bit;
            assert!(decode(&other, &[-1i8, 0, 1], &mut [0; 3]).is_err(), "{byte} {bit}");
        }
        assert!(decode(&bytes[..8], &[-1i8, 0, 1], &mut [0; 3]).is_err());
    }
}
