//! Quads: four trits as a byte, the unit in which ternary streams are coded and expanded.
//!
//! The *key* of a quad has a bit for each trit that is not zero, and above them a bit for each that
//! is negative. A stream is decoded to keys and the keys are spread to values: two steps through a
//! buffer that stays in the second-level cache, so that a coding is written once for every type.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
mod scalar;

use crate::ternary::codec::tables::{Class, KIND_FIRST};

/// States of a T4-rANS stream: quads of a row.
pub(crate) const ROW: usize = 64;

/// What a trit may be expanded to: numbers of 1, 2 or 4 bytes.
pub trait Value: bytemuck::Pod + Send + Sync {}
impl<T: bytemuck::Pod + Send + Sync> Value for T {}

/// Words that encoding a row may write past those that count.
pub(crate) const WORD_SLACK: usize = 16;

/// What a level does in its own way with quads.
pub(crate) trait Quads {
    /// A density class in the shape that decoding asks for.
    type Decoder;
    /// Makes it.
    fn decoder(class: &Class) -> Self::Decoder;
    /// Decodes a row: writes the keys, and fills the states up from `words`; returns how many it took.
    fn decode_row(
        decoder: &Self::Decoder,
        states: &mut [u32; ROW],
        words: &[[u8; 2]; ROW],
        keys: &mut [u8; ROW],
    ) -> usize;

    /// Encodes a row of symbols: moves the states on, and writes the words that a decoder will take,
    /// in its order; returns how many.
    fn encode_row(
        encoder: &Encoder,
        states: &mut [u32; ROW],
        symbols: &[u8; ROW],
        words: &mut [u16; ROW + WORD_SLACK],
    ) -> usize;

    /// The keys of eight quads, byte by byte, from their mask and the signs of its bits in order.
    fn keys_of_bits(mask: u32, signs: u32) -> u64;

    /// The bits of `negative` where those of `mask` are set, moved together.
    fn extract(negative: u32, mask: u32) -> u32;

    /// Byte i gets bit i of each word, the first word's lowest; at most eight words.
    fn bytes_of_bits(words: &[u64], bytes: &mut [u8; 64]);

    /// The values of -1, 0 and +1 in the shape that spreading asks for.
    type Table<T: Value>;
    /// Makes it.
    fn table<T: Value>(values: [T; 3]) -> Self::Table<T>;
    /// Writes the four values of each key; `out` has four times as many as there are keys. `past` the
    /// caches: the values will not be looked at soon.
    fn spread<T: Value>(table: &Self::Table<T>, keys: &[u8], out: &mut [T], past: bool);
}

/// What an encoder needs of a density class, by kind (eight, so that no bound is checked): the slots of symbol s of kind k begin at
/// `base[k] + s * frequency[k]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    pub frequency: [u32; 8],
    pub base: [u32; 8],
    /// A little more than 1 / frequency: `floor(x * inverse)` is `x / frequency` for every state. It is
    /// too large by x / f * 2^-40 < 2^-22 then, and the quotient lies 1/f > 2^-15 below the next integer.
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

/// Moves each nibble of 32 bits to a byte of its own.
#[inline(always)]
pub(crate) fn nibbles_apart(bits: u32) -> u64 {
    let mut x = u64::from(bits);
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f
}

/// Moves the lower nibbles of eight bytes together.
#[inline(always)]
pub(crate) fn nibbles_together(bytes: u64) -> u32 {
    let mut x = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) as u32
}

/// The four values of every key.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Job, Lanes, Level};
    use crate::ternary::codec::tables::{KEYS, SYMBOLS, class};

    /// All that a level does, as numbers to compare.
    struct Everything;

    impl Job for Everything {
        type Output = (Vec<u32>, Vec<u64>, Vec<u8>, Vec<u16>, Vec<u32>);
        #[inline(always)]
        fn run<L: Lanes>(self) -> Self::Output {
            let (mut states_seen, mut bits, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
            let (mut halves, mut floats) = (Vec::new(), Vec::new());
            let mut random = 1u64;
            let mut next = || {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 32) as u32
            };
            for index in 0..=255 {
                let class = class(index);
                let (encoder, decoder) = (Encoder::new(&class), L::decoder(&class));
                // From the bounds and from everywhere between.
                let mut states: [u32; ROW] = std::array::from_fn(|lane| match lane % 4 {
                    0 => 1 << 16,
                    1 => u32::MAX,
                    _ => next() | 1 << 16,
                });
                let begin = states;
                let symbols: [u8; ROW] =
                    std::array::from_fn(|lane| ((lane + 64 * usize::from(index)) % SYMBOLS) as u8);
                let mut words = [7; ROW + WORD_SLACK];
                let count = L::encode_row(&encoder, &mut states, &symbols, &mut words);
                states_seen.extend(states);
                halves.extend_from_slice(&words[..count]);
                let mut given = [[0; 2]; ROW];
                for (given, word) in given.iter_mut().zip(&words[..count]) {
                    *given = word.to_le_bytes();
                }
                let mut keys = [0; ROW];
                assert_eq!(L::decode_row(&decoder, &mut states, &given, &mut keys), count);
                assert_eq!(states, begin, "class {index}");
                assert_eq!(keys, symbols.map(|symbol| KEYS[usize::from(symbol)]));
                // And states that no encoder made.
                let mut forged: [u32; ROW] = std::array::from_fn(|_| next());
                let words: [[u8; 2]; ROW] = std::array::from_fn(|_| (next() as u16).to_le_bytes());
                bytes.push(L::decode_row(&decoder, &mut forged, &words, &mut keys) as u8);
                states_seen.extend(forged);
                bytes.extend(keys);
            }
            for _ in 0..1000 {
                let mask = next() & next();
                bits.push(L::keys_of_bits(mask, next()));
                bits.push(L::extract(next() & mask, mask).into());
            }
            for count in 0..=8 {
                let words: Vec<u64> =
                    (0..count).map(|_| u64::from(next()) << 32 | u64::from(next())).collect();
                let mut found = [9; 64];
                L::bytes_of_bits(&words, &mut found);
                for (i, byte) in found.iter().enumerate() {
                    let bit = |(w, word): (usize, &u64)| ((word >> i & 1) as u8) << w;
                    assert_eq!(*byte, words.iter().enumerate().map(bit).sum::<u8>());
                }
            }
            for count in (0..140).chain([256, 1000]) {
                let keys: Vec<u8> = (0..count).map(|_| KEYS[next() as usize % SYMBOLS]).collect();
                for past in [false, true] {
                    let mut out = vec![0u8; 4 * count];
                    L::spread(&L::table([b'-', b'0', b'+']), &keys, &mut out, past);
                    bytes.extend(out);
                    let mut out = vec![0u16; 4 * count];
                    L::spread(&L::table([0x8001, 2, 3]), &keys, &mut out, past);
                    halves.extend(out);
                    let mut out = vec![0f32; 4 * count + 3];
                    L::spread(&L::table([-1.5f32, 0.0, 1.5]), &keys, &mut out[3..], past);
                    floats.extend(out.into_iter().map(f32::to_bits));
                }
            }
            (states_seen, bits, bytes, halves, floats)
        }
    }

    #[test]
    fn every_level_gives_the_same() {
        let expected = Level::Scalar.run(Everything);
        for level in [Level::Avx2, Level::Avx512] {
            assert!(expected == level.run(Everything), "{level:?}");
        }
    }

    #[test]
    fn nibbles() {
        assert_eq!(nibbles_apart(0x8765_4321), 0x0807_0605_0403_0201);
        assert_eq!(nibbles_together(0xf8f7_f6f5_f4f3_f2f1), 0x8765_4321);
        // Mask 0b1010_0110: signs in order 1, 0, 1, 1.
        let keys = Level::Scalar.run(Bits(0b1010_0110, 0b1101));
        assert_eq!(keys.to_le_bytes()[..3], [0b0010_0110, 0b1010_1010, 0]);
    }

    struct Bits(u32, u32);
    impl Job for Bits {
        type Output = u64;
        #[inline(always)]
        fn run<L: Lanes>(self) -> u64 {
            L::keys_of_bits(self.0, self.1)
        }
    }

    #[test]
    fn division_by_multiplication_is_exact() {
        for index in 0..=255 {
            let encoder = Encoder::new(&class(index));
            for (f, inverse) in encoder.frequency.into_iter().zip(encoder.inverse) {
                // The quotients next to an integer, up to the largest state that is divided.
                for q in (1..1u64 << 18).step_by(97).chain([(1 << 18) - 1]) {
                    for x in [q * u64::from(f), q * u64::from(f) + u64::from(f) - 1] {
                        assert_eq!((x as f64 * inverse) as u64, q, "{x} / {f}");
                    }
                }
            }
        }
    }
}
