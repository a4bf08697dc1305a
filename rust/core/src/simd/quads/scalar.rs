//! The baseline, which uses tables of slots, nibbles and keys.

use super::super::sets::Scalar;
use super::symbols::{Class, KEYS, KIND_OF, SCALE_BITS, SYMBOLS};
use super::{ByKey, Encoder, Quads, ROW, Value, WORD_SLACK, spread_by_key, values_by_key};

const SLOTS: usize = 1 << SCALE_BITS;

/// The symbol of each slot, in a table that fits into the first-level cache, and the numbers with
/// which each symbol advances a state.
pub(crate) struct Slots {
    symbol: [u8; SLOTS],
    /// Frequency, first slot and key of each symbol, with 256 entries so that no bound is checked.
    step: [(u16, u16, u8); 256],
}

impl Quads for Scalar {
    type Decoder = Slots;

    fn decoder(class: &Class) -> Slots {
        let mut slots = Slots { symbol: [0; SLOTS], step: [(0, 0, 0); 256] };
        let mut first = 0;
        for symbol in 0..SYMBOLS {
            let frequency = class.frequency[usize::from(KIND_OF[symbol])];
            slots.symbol[first as usize..(first + frequency) as usize].fill(symbol as u8);
            slots.step[symbol] = (frequency as u16, first as u16, KEYS[symbol]);
            first += frequency;
        }
        slots
    }

    #[inline(always)]
    fn decode_row(
        slots: &Slots,
        states: &mut [u32; ROW],
        words: &[[u8; 2]; ROW],
        keys: &mut [u8; ROW],
    ) -> usize {
        let mut taken = 0;
        for (state, key) in states.iter_mut().zip(keys) {
            let slot = *state as usize % SLOTS;
            let (frequency, first, symbol_key) = slots.step[usize::from(slots.symbol[slot])];
            *key = symbol_key;
            // At most 2^14 * (2^18 - 1) + 2^14 - 1 < 2^32.
            let moved =
                u32::from(frequency) * (*state >> SCALE_BITS) + slot as u32 - u32::from(first);
            let low = moved >> 16 == 0;
            // A selection of values and not a branch, because which states run low cannot be
            // predicted.
            let filled = moved << 16 | u32::from(u16::from_le_bytes(words[taken % ROW]));
            *state = if low { filled } else { moved };
            taken += usize::from(low);
        }
        taken
    }

    #[inline(always)]
    fn encode_row(
        encoder: &Encoder,
        states: &mut [u32; ROW],
        symbols: &[u8; ROW],
        words: &mut [u16; ROW + WORD_SLACK],
    ) -> usize {
        encode_row(encoder, states, symbols, words)
    }

    #[inline(always)]
    fn keys_of_bits(mask: u32, signs: u32) -> u64 {
        let (mut keys, mut rest) = ([0; 8], signs);
        for (nibble, key) in keys.iter_mut().enumerate() {
            let present = (mask >> (4 * nibble) & 15) as usize;
            *key = KEY_OF_NIBBLES[present << 4 | (rest & 15) as usize];
            rest >>= present.count_ones();
        }
        u64::from_le_bytes(keys)
    }

    #[inline(always)]
    fn extract(negative: u32, mask: u32) -> u32 {
        let (mut bits, mut done) = (0u64, 0);
        for nibble in 0..8 {
            let present = (mask >> (4 * nibble) & 15) as usize;
            let chosen = EXTRACTED[present << 4 | (negative >> (4 * nibble) & 15) as usize];
            bits |= u64::from(chosen) << done;
            done += present.count_ones();
        }
        bits as u32
    }

    #[inline(always)]
    fn bytes_of_bits(words: &[u64], bytes: &mut [u8; 64]) {
        for (i, eight) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut all = 0;
            for (shift, word) in words.iter().enumerate() {
                let bits = u64::from((word >> (8 * i)) as u8);
                let chosen = bits.wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
                // The sum sets bit 7 of each byte that was not 0, and no byte carries into the
                // next.
                let spread = (chosen + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101;
                all |= spread << shift;
            }
            *eight = all.to_le_bytes();
        }
    }

    type Table<T: Value> = ByKey<T>;

    fn table<T: Value>(values: [T; 3]) -> ByKey<T> {
        values_by_key(values)
    }

    #[inline(always)]
    fn spread<T: Value>(table: &ByKey<T>, keys: &[u8], out: &mut [T], _past: bool) {
        spread_by_key(table, keys, out);
    }
}

/// [`Quads::encode_row`] for every level that has no compressing store.
#[inline(always)]
pub(super) fn encode_row(
    encoder: &Encoder,
    states: &mut [u32; ROW],
    symbols: &[u8; ROW],
    words: &mut [u16; ROW + WORD_SLACK],
) -> usize {
    let mut count = 0;
    for (state, symbol) in states.iter_mut().zip(symbols) {
        let kind = usize::from(KIND_OF[usize::from(*symbol)] & 7);
        let frequency = encoder.frequency[kind];
        words[count % ROW] = *state as u16;
        let full = *state >= frequency << (32 - SCALE_BITS);
        count += usize::from(full);
        let rest = if full { *state >> 16 } else { *state };
        // Truncates towards zero, and no quotient reaches 2^18.
        let quotient = (f64::from(rest) * encoder.inverse[kind]) as i64 as u32;
        let slot = encoder.base[kind].wrapping_add(u32::from(*symbol) * frequency);
        *state = (quotient << SCALE_BITS) + (rest - quotient * frequency) + slot;
    }
    count
}

/// Gathers the bits of `chosen` that `mask` selects into the lowest bits of a nibble.
const fn extract_nibble(mask: u8, chosen: u8) -> u8 {
    let (mut out, mut to, mut from) = (0, 0, 0);
    while from < 4 {
        if mask >> from & 1 != 0 {
            out |= (chosen >> from & 1) << to;
            to += 1;
        }
        from += 1;
    }
    out
}

/// For each mask and nibble, the nibble's bits at the places of the mask.
const EXTRACTED: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = extract_nibble((i >> 4) as u8, (i & 15) as u8);
        i += 1;
    }
    table
};

/// For each mask and the sign of each of its set bits in order, the key.
const KEY_OF_NIBBLES: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mask, mut signs) = ((i >> 4) as u8, (i & 15) as u8);
        let (mut negative, mut bit) = (0, 0);
        while bit < 4 {
            if mask >> bit & 1 != 0 {
                negative |= (signs & 1) << bit;
                signs >>= 1;
            }
            bit += 1;
        }
        table[i] = mask | negative << 4;
        i += 1;
    }
    table
};
