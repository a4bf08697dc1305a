//! Tables, counts and products equal those of plain loops over trits.

// Values are looked up, not computed.
#![allow(clippy::float_cmp)]

use proptest::prelude::*;

use super::super::codec::{Block, Coding, pack};
use super::*;
use crate::simd::Level;

fn to_planes(trits: &[i8], level: Level) -> (Vec<u64>, Vec<u64>) {
    let bytes = pack(trits, Coding::T4, 512, level, 1).unwrap();
    let block = Block::parse(&bytes).unwrap().at(level);
    let words = trits.len().div_ceil(64);
    let (mut mask, mut negative) = (vec![9; words], vec![9; words]);
    planes(&block, &mut mask, &mut negative, 2).unwrap();
    (mask, negative)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn tables_and_counts_are_those_of_a_plain_loop(
        len in 1..70_000usize, k in 1..=8usize, seed: u64, threads in 1..4usize, cut: prop::sample::Index,
    ) {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let trits: Vec<Vec<i8>> =
            (0..k).map(|_| (0..len).map(|_| (next() % 3) as i8 - 1).collect()).collect();
        let found: Vec<_> = trits.iter().map(|t| to_planes(t, Level::best())).collect();
        prop_assert_eq!(&found[0], &to_planes(&trits[0], Level::Scalar));
        let experts: Vec<Planes<'_>> =
            found.iter().map(|(mask, negative)| Planes { mask, negative }).collect();
        let (middle, size) = (cut.index(len), 1 << (2 * k));
        let pieces = [
            Piece { start: 0, len: middle, table: 1 },
            Piece { start: middle, len: len - middle, table: 0 },
        ];
        let tables: Vec<Vec<f32>> =
            (0..2).map(|t| (0..size).map(|code| (2 * code + t) as f32).collect()).collect();
        let tables: Vec<&[f32]> = tables.iter().map(Vec::as_slice).collect();
        let mut out = vec![-1.0; len];
        let level = [Level::Scalar, Level::Avx2, Level::Avx512][(seed % 3) as usize];
        look_up(&experts, &pieces, &tables, &mut out, level, threads).unwrap();
        let counts = count(&experts, &pieces, 2, len, level, threads).unwrap();
        let mut expected = vec![0; 2 * size];
        for (i, value) in out.iter().enumerate() {
            let code: usize = (0..k)
                .map(|e| [3, 0, 1][(trits[e][i] + 1) as usize] << (2 * e))
                .sum();
            let table = usize::from(i < middle);
            prop_assert_eq!(*value, (2 * code + table) as f32);
            expected[table * size + code] += 1;
        }
        prop_assert_eq!(counts, expected);
        let dots = dot_products(&experts, &pieces, 2, len, threads).unwrap();
        for (i, a) in trits.iter().enumerate() {
            for (j, b) in trits.iter().enumerate() {
                let product = |range: std::ops::Range<usize>| -> i64 {
                    range.map(|p| i64::from(a[p]) * i64::from(b[p])).sum()
                };
                let found = &dots[2 * (i * k + j)..][..2];
                prop_assert_eq!(found, [product(middle..len), product(0..middle)]);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mask, negative) = (vec![0; 2], vec![0; 2]);
    let expert = Planes { mask: &mask, negative: &negative };
    let piece = |start, len, table| Piece { start, len, table };
    assert!(count(&[expert], &[piece(0, 100, 0)], 1, 100, Level::Scalar, 1).is_ok());
    for (pieces, len) in [
        (vec![piece(0, 101, 0)], 100),
        (vec![piece(0, 50, 0), piece(40, 5, 0)], 100),
        (vec![piece(5, usize::MAX, 0)], 100),
        (vec![piece(0, 1, 1)], 100),
        (vec![], 200),
    ] {
        assert!(count(&[expert], &pieces, 1, len, Level::Scalar, 1).is_err());
    }
    assert!(count(&[], &[], 1, 100, Level::Scalar, 1).is_err());
    assert!(count(&[expert; 9], &[], 1, 100, Level::Scalar, 1).is_err());
    let mut out = [0.0; 100];
    assert!(
        look_up(&[expert], &[piece(0, 1, 0)], &[&[0.0; 3]], &mut out, Level::Scalar, 1).is_err()
    );
}
