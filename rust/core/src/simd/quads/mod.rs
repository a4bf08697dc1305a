//! Quads: four trits in one byte, the unit in which ternary streams are coded and expanded.
//!
//! The *key* of a quad has one bit for each trit that is not zero and, above them, one bit for each
//! trit that is negative. A stream is first decoded to keys, and the keys are then spread to
//! values. The two steps share a buffer that stays in the second-level cache, so that a coding is
//! implemented only once for all types of values.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
mod scalar;
mod symbols;
#[cfg(test)]
mod tests;

use symbols::KIND_FIRST;
pub(crate) use symbols::{Class, KINDS, SCALE_BITS, SYMBOL_OF_KEY};
#[cfg(test)]
pub(crate) use symbols::{KEYS, KIND_SYMBOLS};

/// Number of states of a T4-rANS stream, and of quads in a row.
pub(crate) const ROW: usize = 64;

/// A type that trits can be expanded to: a number of 1, 2 or 4 bytes.
pub trait Value: bytemuck::Pod + Send + Sync {}
impl<T: bytemuck::Pod + Send + Sync> Value for T {}

/// Number of words that encoding a row may write past the last word that counts.
pub(crate) const WORD_SLACK: usize = 16;

/// The operations on quads that each level implements in its own way.
pub(crate) trait Quads {
    /// A density class, prepared for decoding.
    type Decoder;
    /// Prepares a density class for decoding.
    fn decoder(class: &Class) -> Self::Decoder;
    /// Decodes a row: writes the keys, refills the states from `words`, and returns how many words
    /// it took.
    fn decode_row(
        decoder: &Self::Decoder,
        states: &mut [u32; ROW],
        words: &[[u8; 2]; ROW],
        keys: &mut [u8; ROW],
    ) -> usize;

    /// Encodes a row of symbols: advances the states, writes the words that a decoder will take, in
    /// the decoder's order, and returns how many words there are.
    fn encode_row(
        encoder: &Encoder,
        states: &mut [u32; ROW],
        symbols: &[u8; ROW],
        words: &mut [u16; ROW + WORD_SLACK],
    ) -> usize;

    /// Returns the keys of eight quads, one per byte, given their mask and the sign of each set bit
    /// in order.
    fn keys_of_bits(mask: u32, signs: u32) -> u64;

    /// Gathers the bits of `negative` at the set bits of `mask` into the lowest bits (the
    /// instruction `pext`).
    fn extract(negative: u32, mask: u32) -> u32;

    /// Writes bit i of each word to byte i, the first word's bit lowest. There are at most eight
    /// words.
    fn bytes_of_bits(words: &[u64], bytes: &mut [u8; 64]);

    /// The values of -1, 0 and +1, prepared for spreading.
    type Table<T: Value>;
    /// Prepares the values of -1, 0 and +1 for spreading.
    fn table<T: Value>(values: [T; 3]) -> Self::Table<T>;
    /// Writes the four values of each key; `out` must hold four values per key. With `past`, the
    /// values are written past the caches, because they will not be read soon; before they are,
    /// this thread must call [`Self::fence`].
    fn spread<T: Value>(table: &Self::Table<T>, keys: &[u8], out: &mut [T], past: bool);

    /// Completes the stores of [`Self::spread`], which the processor orders neither with later
    /// stores nor with loads.
    fn fence();
}

/// A density class, prepared for encoding: one entry per kind, and eight entries so that no bound
/// is checked. The slots of symbol s of kind k begin at `base[k] + s * frequency[k]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    pub frequency: [u32; 8],
    pub base: [u32; 8],
    /// Slightly more than 1 / frequency, so that `floor(x * inverse)` is `x / frequency` for every
    /// state x: the product is too large by x / f * 2^-40 < 2^-22, and the exact quotient is at
    /// least 1/f > 2^-15 below the next integer.
    pub inverse: [f64; 8],
}

impl Encoder {
    pub fn new(class: &Class) -> Self {
        let mut encoder = Self { frequency: [1; 8], base: [0; 8], inverse: [1.0; 8] };
        for (kind, f) in class.frequency.into_iter().enumerate() {
            encoder.frequency[kind] = f;
            encoder.base[kind] = class.first_slot[kind].wrapping_sub(KIND_FIRST[kind] * f);
            encoder.inverse[kind] = (1.0 + f64::powi(2.0, -40)) / f64::from(f);
        }
        encoder
    }
}

/// Moves each nibble of 32 bits to its own byte.
#[inline(always)]
pub(crate) fn nibbles_apart(bits: u32) -> u64 {
    let mut x = u64::from(bits);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

/// Packs the lower nibbles of eight bytes into 32 bits.
#[inline(always)]
pub(crate) fn nibbles_together(bytes: u64) -> u32 {
    let mut x = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// The four values of each key.
type ByKey<T> = [[T; 4]; 256];

fn values_by_key<T: Value>(values: [T; 3]) -> ByKey<T> {
    std::array::from_fn(|key| {
        std::array::from_fn(|j| match (key >> j & 1, key >> (4 + j) & 1) {
            (0, _) => values[1],
            (_, 0) => values[2],
            _ => values[0],
        })
    })
}

#[inline(always)]
fn spread_by_key<T: Value>(table: &ByKey<T>, keys: &[u8], out: &mut [T]) {
    for (quad, key) in out.as_chunks_mut::<4>().0.iter_mut().zip(keys) {
        *quad = table[usize::from(*key)];
    }
}
