//! Every level gives the results of the scalar one, for every density class.

use super::symbols::{KEYS, SYMBOLS};
use super::*;
use crate::simd::{Job, Lanes, Level};

/// The published density classes.
fn classes() -> Vec<Class> {
    let csv = include_str!("../../../../../docs/t4-frequencies.csv");
    let class = |line: &str| {
        let numbers: Vec<u32> =
            line.split(',').skip(1).map(|number| number.parse().unwrap()).collect();
        Class::new(numbers.try_into().unwrap())
    };
    let classes: Vec<Class> = csv.lines().skip(1).map(class).collect();
    assert_eq!(classes.len(), 256);
    classes
}

/// All operations of a level, with their results as numbers to compare.
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
        for (index, class) in classes().iter().enumerate() {
            let (encoder, decoder) = (Encoder::new(class), L::decoder(class));
            // From the bounds and from everywhere between.
            let mut states: [u32; ROW] = std::array::from_fn(|lane| match lane % 4 {
                0 => 1 << 16,
                1 => u32::MAX,
                _ => next() | 1 << 16,
            });
            let begin = states;
            let symbols: [u8; ROW] =
                std::array::from_fn(|lane| ((lane + 64 * index) % SYMBOLS) as u8);
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
    for class in classes() {
        let encoder = Encoder::new(&class);
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
