//! Whole blocks: round trips, and damaged or forged bytes.

use proptest::prelude::*;

use super::decode::{Decode, Row};
use super::encode::{Encode, Stream};
use super::layout::{BITMASK, GUARD, HEADER, MAGIC, ROW};
use super::sink::Spread;
use super::*;
use crate::Result;
use crate::simd::Level;

/// Trits of any density, which varies along the sequence.
fn trits() -> impl Strategy<Value = Vec<i8>> {
    (0..80_000usize, 0..=100u64, any::<u64>()).prop_map(|(count, percent, seed)| {
        let mut state = seed | 1;
        (0..count)
            .map(|i| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let dense = if i % 40_000 < 32_768 { percent } else { percent / 8 };
                let draw = state >> 33;
                if draw % 100 >= dense { 0 } else { (draw / 100 % 2) as i8 * 2 - 1 }
            })
            .collect()
    })
}

fn decode(level: Level, row: Row<'_>, trits: usize) -> Result<Vec<i8>> {
    let mut out = vec![9; trits];
    let sink = Spread { values: [-1, 0, 1], out: &mut out, past: false };
    level.run(Decode { row: &row, trits, sink })?;
    Ok(out)
}

fn unpack(bytes: &[u8], threads: usize) -> Result<Vec<i8>> {
    let block = Block::parse(bytes)?;
    let mut out = vec![9; block.count()];
    block.unpack([-1, 0, 1], &mut out, threads)?;
    Ok(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn round_trip(trits in trits(), bitmask: bool, steps in 9..=14u32, threads in 1..4usize) {
        let coding = if bitmask { Coding::Bitmask } else { Coding::T4 };
        let bytes = pack(&trits, coding, 1 << steps, Level::best(), threads).unwrap();
        for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
            prop_assert_eq!(&bytes, &pack(&trits, coding, 1 << steps, level, 1).unwrap());
            let mut out = vec![9; trits.len()];
            let block = Block::parse(&bytes).unwrap().at(level);
            block.unpack([-1, 0, 1], &mut out, threads).unwrap();
            prop_assert_eq!(&out, &trits);
        }
    }

    #[test]
    fn damage_is_an_error_or_harmless(
        trits in trits(), at: prop::sample::Index, bit in 0..8, cut: prop::sample::Index,
    ) {
        let bytes = pack(&trits, Coding::T4, 512, Level::best(), 1).unwrap();
        let mut flipped = bytes.clone();
        flipped[at.index(bytes.len())] ^= 1u8 << bit;
        prop_assert!(unpack(&flipped, 1).is_err());
        prop_assert!(unpack(&bytes[..cut.index(bytes.len())], 1).is_err());
        let mut longer = bytes.clone();
        longer.push(0);
        prop_assert!(unpack(&longer, 1).is_err());
    }

    /// The checksums are right, so only the decoder protects memory from the bytes.
    #[test]
    fn forged_streams_never_panic(
        count in 0..5000usize, class: u8, bitmask: bool,
        stream in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let row = Row { bytes: &stream, nonzeros: 1, coding: u8::from(bitmask), class };
        let expected = decode(Level::Scalar, row, count).map_err(|e| e.to_string());
        for level in [Level::Avx2, Level::Avx512] {
            prop_assert_eq!(&decode(level, row, count).map_err(|e| e.to_string()), &expected);
        }
    }

    /// A real stream, damaged but with a valid checksum, gives an error or the right number of
    /// trits.
    #[test]
    fn damaged_streams_never_panic(
        trits in trits(), at: prop::sample::Index, bit in 0..8, splice: prop::sample::Index,
    ) {
        prop_assume!(!trits.is_empty());
        let coded = Encode { trits: &trits, first: 0, coding: Coding::T4 };
        let Stream { mut bytes, nonzeros, coding, class } =
            Level::Scalar.run(coded).unwrap();
        prop_assume!(!bytes.is_empty());
        let padding = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let end = splice.index(bytes.len() - padding);
        let position = at.index(bytes.len());
        bytes[position] ^= 1u8 << bit;
        let half = &bytes[..end];
        for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
            let row = Row { bytes: &bytes, nonzeros, coding, class };
            let _ = decode(level, row, trits.len());
            let cut = Row { bytes: half, ..row };
            let found = decode(level, cut, trits.len());
            prop_assert!(found.is_err());
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut forged = MAGIC.to_vec();
        forged.extend_from_slice(&[1, 9, 0, 0]);
        forged.extend_from_slice(&bytes);
        prop_assert!(unpack(&forged, 1).is_err());
    }
}

#[test]
fn trits_out_of_range_are_named() {
    let mut trits = vec![0i8; 40_000];
    trits[35_000] = 2;
    let error = pack(&trits, Coding::T4, 512, Level::best(), 2).unwrap_err().to_string();
    assert_eq!(error, "trits is 2 at index 35000, expected -1, 0 or 1");
    assert!(pack(&[], Coding::T4, 1000, Level::best(), 1).is_err());
}

#[test]
fn an_empty_sequence_and_a_zero_one() {
    assert_eq!(pack(&[], Coding::T4, 2048, Level::best(), 1).unwrap().len(), HEADER + GUARD);
    let zero = pack(&vec![0; 1 << 20], Coding::T4, 2048, Level::best(), 1).unwrap();
    assert_eq!(zero.len(), HEADER + 8 * ROW + GUARD);
    assert_eq!(unpack(&zero, 2).unwrap(), vec![0; 1 << 20]);
}

#[test]
fn short_streams_fall_back_to_the_bitmask() {
    let trits: Vec<i8> = (0..500).map(|i| i8::from(i % 3 == 0) - i8::from(i % 5 == 0)).collect();
    let bytes = pack(&trits, Coding::T4, 512, Level::best(), 1).unwrap();
    assert_eq!(bytes[HEADER + 8], BITMASK);
    assert_eq!(unpack(&bytes, 1).unwrap(), trits);
}
