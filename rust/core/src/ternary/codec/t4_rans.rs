//! T4-rANS: four trits a symbol, 64 interleaved rANS states (docs/expert-format.md, section 5).
//!
//! After Duda, "Asymmetric numeral systems" (arXiv 1311.2540), with the interleaving of Giesen
//! (arXiv 1402.3392). The decoder reads bytes of strangers: every word is bounds-checked.

use super::tables::{
    Class, KIND_FIRST, KINDS, SCALE_BITS, SYMBOL_OF_KEY, SYMBOLS, best_class, class, kind_of,
};
use crate::{Error, Result};

/// States of a stream: state i codes quads i, 64 + i, 128 + i, ...
pub const STATES: usize = 64;
/// Lower bound of a state between symbols.
const LOWER: u32 = 1 << 16;
const STATE_BYTES: usize = 4 * STATES;

/// What a stream will be coded as: its symbols in whole rows, and the class that suits them.
pub struct Plan {
    symbols: Vec<u8>,
    class: u8,
    bits: u64,
}

impl Plan {
    /// Chooses the density class for the trits of one stream.
    pub fn new(trits: &[i8]) -> Self {
        let mut symbols: Vec<u8> = trits.chunks(4).map(symbol_of).collect();
        // Quads past the end are coded too.
        symbols.resize(symbols.len().next_multiple_of(STATES), 0);
        let mut counts = [0u64; SYMBOLS];
        for symbol in &symbols {
            counts[usize::from(*symbol)] += 1;
        }
        let mut kinds = [0; KINDS];
        for (symbol, count) in counts.iter().enumerate() {
            kinds[kind_of(symbol as u8)] += count;
        }
        let (class, bits) = best_class(&kinds);
        Self { symbols, class, bits }
    }

    /// Bytes of the stream, to within a few: states and rounded entropy.
    pub fn estimated_len(&self) -> u64 {
        STATE_BYTES as u64 + self.bits.div_ceil(8)
    }
}

/// Encodes one stream: its bytes, padded to a multiple of 16, and the density class.
pub fn encode(plan: &Plan) -> (Vec<u8>, u8) {
    let symbols = &plan.symbols;
    let slots = Slots::new(&class(plan.class));
    let mut states = [LOWER; STATES];
    let mut words: Vec<u16> = Vec::with_capacity(symbols.len() / 4);
    for row in symbols.chunks(STATES).rev() {
        for (lane, symbol) in row.iter().enumerate().rev() {
            let (frequency, first) = slots.0[usize::from(*symbol)];
            let state = &mut states[lane];
            if u64::from(*state) >= u64::from(frequency) << (32 - SCALE_BITS) {
                words.push(*state as u16);
                *state >>= 16;
            }
            *state = ((*state / frequency) << SCALE_BITS) + *state % frequency + first;
        }
    }
    let mut bytes = Vec::with_capacity((STATE_BYTES + 2 * words.len()).next_multiple_of(16));
    for state in states {
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    for word in words.iter().rev() {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    (bytes, plan.class)
}

/// Decodes one stream into `out`; `values` are what each symbol stands for.
///
/// Returns the number of nonzero trits.
///
/// # Errors
/// [`Error::Format`] if the stream is damaged: a state below its bound, a word missing or left over,
/// a final state other than 2^16, or padding that is not zero.
pub fn decode<T: Copy>(
    stream: &[u8],
    index: u8,
    values: &[[T; 4]; SYMBOLS],
    out: &mut [T],
) -> Result<u64> {
    let class = class(index);
    let (head, words) = stream.split_at_checked(STATE_BYTES).ok_or_else(|| {
        damaged(format!("{} bytes, expected at least {STATE_BYTES} for its states", stream.len()))
    })?;
    let mut states = [0u32; STATES];
    for (state, bytes) in states.iter_mut().zip(head.as_chunks().0) {
        *state = u32::from_le_bytes(*bytes);
        if *state < LOWER {
            return Err(damaged(format!("has a state {state} below {LOWER}")));
        }
    }
    let (words, odd) = words.as_chunks::<2>();
    let mut used = 0;
    let mut nonzeros = 0;
    for row in out.chunks_mut(4 * STATES) {
        let mut symbols = [0u8; STATES];
        for (state, symbol) in states.iter_mut().zip(&mut symbols) {
            (*state, *symbol) = step(*state, &class);
        }
        for state in &mut states {
            if *state < LOWER {
                let word =
                    words.get(used).ok_or_else(|| damaged("ends before its last word".into()))?;
                *state = *state << 16 | u32::from(u16::from_le_bytes(*word));
                used += 1;
            }
        }
        nonzeros += symbols.iter().map(|symbol| kind_of(*symbol) as u64).sum::<u64>();
        write_row(row, &symbols, values)?;
    }
    if states.iter().any(|state| *state != LOWER) {
        return Err(damaged("does not end in its first state".into()));
    }
    let rest = &words[used..];
    if rest.len() >= 8 || rest.iter().flatten().chain(odd).any(|byte| *byte != 0) {
        return Err(damaged("has bytes after its last word".into()));
    }
    Ok(nonzeros)
}

/// One decoding step of one state, before it is filled up: the new state and the symbol.
#[inline]
fn step(state: u32, class: &Class) -> (u32, u8) {
    let slot = state & ((1 << SCALE_BITS) - 1);
    let mut kind = 0;
    for first in &class.first_slot[1..KINDS] {
        kind += usize::from(slot >= *first);
    }
    let offset = slot - class.first_slot[kind];
    let place = ((u64::from(offset) * u64::from(class.reciprocal[kind])) >> 31) as u32;
    let frequency = class.frequency[kind];
    // At most 2^14 * (2^18 - 1) + 2^14 - 1 < 2^32.
    let state = frequency * (state >> SCALE_BITS) + (offset - place * frequency);
    (state, (KIND_FIRST[kind] + place) as u8)
}

/// Writes the quads of one row; what lies past the end must be zero.
fn write_row<T: Copy>(
    row: &mut [T],
    symbols: &[u8; STATES],
    values: &[[T; 4]; SYMBOLS],
) -> Result<()> {
    let (quads, tail) = row.as_chunks_mut::<4>();
    let whole = quads.len();
    for (quad, symbol) in quads.iter_mut().zip(symbols) {
        *quad = values[usize::from(*symbol)];
    }
    let mut past = &symbols[whole..];
    if !tail.is_empty() {
        let (symbol, rest) = (past[0], &past[1..]);
        let key = super::tables::KEYS[usize::from(symbol)];
        if (key & 15) >> tail.len() != 0 {
            return Err(damaged("has a nonzero trit past its end".into()));
        }
        tail.copy_from_slice(&values[usize::from(symbol)][..tail.len()]);
        past = rest;
    }
    if past.iter().any(|symbol| *symbol != 0) {
        return Err(damaged("has a nonzero trit past its end".into()));
    }
    Ok(())
}

/// Frequency and first slot of each symbol.
struct Slots([(u32, u32); SYMBOLS]);

impl Slots {
    fn new(class: &Class) -> Self {
        Self(std::array::from_fn(|symbol| {
            let kind = kind_of(symbol as u8);
            let frequency = class.frequency[kind];
            (frequency, class.first_slot[kind] + (symbol as u32 - KIND_FIRST[kind]) * frequency)
        }))
    }
}

/// The symbol of up to four trits.
#[inline]
fn symbol_of(quad: &[i8]) -> u8 {
    let mut key = 0u8;
    for (j, trit) in quad.iter().enumerate() {
        key |= u8::from(*trit != 0) << j | u8::from(*trit < 0) << (4 + j);
    }
    SYMBOL_OF_KEY[usize::from(key)]
}

fn damaged(what: String) -> Error {
    Error::Format(format!("a T4-rANS stream {what}: the packed bytes are damaged"))
}

#[cfg(test)]
mod tests {
    use super::super::tables::expand;
    use super::*;

    #[test]
    fn a_stream_worked_by_hand() {
        // One row of zero quads under class 0: f = 16304 at slot 0. 65536 = 4 * 16304 + 320, so each
        // state becomes 4 * 16384 + 320 = 65856 without a word.
        let (bytes, index) = encode(&Plan::new(&[0; 256]));
        assert_eq!((bytes.len(), index), (256, 0));
        assert!(bytes.chunks(4).all(|state| state == 65_856u32.to_le_bytes()));
        let mut out = [7i8; 256];
        assert_eq!(decode(&bytes, 0, &expand([-1, 0, 1]), &mut out).unwrap(), 0);
        assert_eq!(out, [0; 256]);
    }

    #[test]
    fn every_symbol_in_every_lane() {
        for length in [1usize, 3, 4, 5, 255, 256, 257, 4 * 81 * 64 + 2] {
            let trits: Vec<i8> =
                (0..length).map(|i| (((i / 4) / 3usize.pow(i as u32 % 4)) % 3) as i8 - 1).collect();
            let (bytes, index) = encode(&Plan::new(&trits));
            let mut out = vec![5i8; length];
            let nonzeros = decode(&bytes, index, &expand([-1, 0, 1]), &mut out).unwrap();
            assert_eq!(out, trits);
            assert_eq!(nonzeros, trits.iter().filter(|t| **t != 0).count() as u64);
        }
    }

    #[test]
    fn a_length_that_is_not_the_streams_is_noticed() {
        let trits: Vec<i8> =
            (0..3000).map(|i| i8::from(i % 7 == 0) - i8::from(i % 11 == 0)).collect();
        let (bytes, index) = encode(&Plan::new(&trits));
        for length in [0usize, 4, 256, 2560, 2991, 3328, 6000] {
            let mut out = vec![0i8; length];
            assert!(decode(&bytes, index, &expand([-1, 0, 1]), &mut out).is_err(), "{length}");
        }
    }
}
