//! The symbols of T4-rANS: quads of four trits, ordered by the number of nonzero trits and then by
//! key.

/// Frequencies sum to `1 << SCALE_BITS` over the 81 symbols.
pub(crate) const SCALE_BITS: u32 = 14;
/// Kinds of symbols: a quad has 0 to 4 nonzero trits.
pub(crate) const KINDS: usize = 5;
/// Symbols of each kind: binomial(4, k) places times 2^k signs.
pub(crate) const KIND_SYMBOLS: [u32; KINDS] = [1, 8, 24, 32, 16];
/// First symbol of each kind.
pub(crate) const KIND_FIRST: [u32; KINDS] = [0, 1, 9, 33, 65];
/// Number of symbols.
pub(crate) const SYMBOLS: usize = 81;

/// The frequencies of one density class, in the form that coders use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    /// Frequency of each symbol of a kind.
    pub frequency: [u32; KINDS],
    /// First slot of each kind; `1 << SCALE_BITS` after the last.
    pub first_slot: [u32; KINDS + 1],
    /// `floor(2^31 / frequency) + 1`: `slot * reciprocal >> 31` is the exact quotient (tested).
    pub reciprocal: [u32; KINDS],
}

impl Class {
    /// Derives slots and reciprocals from the frequency of each symbol of a kind.
    pub fn new(frequency: [u32; KINDS]) -> Self {
        let mut first_slot = [0; KINDS + 1];
        for kind in 0..KINDS {
            first_slot[kind + 1] = first_slot[kind] + frequency[kind] * KIND_SYMBOLS[kind];
        }
        Self { frequency, first_slot, reciprocal: frequency.map(|f| (1 << 31) / f + 1) }
    }
}

/// Keys of the symbols (4 mask bits, 4 sign bits above them), in symbol order.
pub(crate) const KEYS: [u8; SYMBOLS] = {
    let mut keys = [0; SYMBOLS];
    let (mut symbol, mut kind) = (0, 0);
    while kind < KINDS {
        let mut key = 0u16;
        while key < 256 {
            let (mask, negative) = (key & 15, key >> 4);
            if negative & !mask == 0 && mask.count_ones() as usize == kind {
                keys[symbol] = key as u8;
                symbol += 1;
            }
            key += 1;
        }
        kind += 1;
    }
    keys
};

/// Symbol of each key; 255 for bytes that are not keys.
pub(crate) const SYMBOL_OF_KEY: [u8; 256] = {
    let mut symbols = [255; 256];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        symbols[KEYS[symbol] as usize] = symbol as u8;
        symbol += 1;
    }
    symbols
};

/// Number of nonzero trits of each symbol; 0 for bytes that are not symbols, so that no bound is
/// checked.
pub(crate) const KIND_OF: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        kinds[symbol] = (KEYS[symbol] & 15).count_ones() as u8;
        symbol += 1;
    }
    kinds
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_ordered_by_kind_then_key() {
        assert_eq!(KEYS[..9], [0, 1, 2, 4, 8, 0x11, 0x22, 0x44, 0x88]);
        for symbol in 0..SYMBOLS as u8 {
            let key = KEYS[usize::from(symbol)];
            assert_eq!(SYMBOL_OF_KEY[usize::from(key)], symbol);
            let kind = (key & 15).count_ones();
            assert_eq!(u32::from(KIND_OF[usize::from(symbol)]), kind);
            assert!(u32::from(symbol) >= KIND_FIRST[kind as usize]);
        }
    }
}
