//! Every level gives the results of the scalar one.

use super::*;
use crate::rng::{Key, Stream};

struct Everything<'a>(&'a [u64], &'a [u16]);

impl Job for Everything<'_> {
    type Output = (Vec<u32>, Vec<u32>, Vec<i64>, Vec<i32>, Vec<u64>);
    #[inline(always)]
    fn run<L: Lanes>(self) -> Self::Output {
        let (mut words, mut buffer, mut block) = (Vec::new(), [0; 64], 0);
        while words.len() < 256 {
            let key = Key::new(1, 2, Stream::Spans);
            let wanted = 10 * (block as usize % 9);
            let count = L::words(key, 3 << 40, 5, block, wanted, &mut buffer);
            block += count as u32 / 4;
            words.extend_from_slice(&buffer[..count]);
        }
        let mut positions = vec![0; 64 * self.0.len() + SLACK];
        let count = L::positions(self.0, &mut positions);
        positions.truncate(count);
        let (mut long, mut short) = (Vec::new(), Vec::new());
        for length in 0..=self.1.len() {
            let mut to = vec![0i64; self.1.len()];
            L::copy_long(self.1, &mut to, length);
            long.extend_from_slice(&to[..length]);
            let mut to = vec![0i32; self.1.len()];
            L::copy_short(self.1, &mut to, length);
            short.extend_from_slice(&to[..length]);
        }
        let mut spread: Vec<u64> =
            self.0.windows(2).map(|pair| L::deposit(pair[0], pair[1])).collect();
        words.truncate(256);
        for bound in [0, 1, 1 << 20, 1 << 31, 3 << 30, u32::MAX.into(), 1 << 32] {
            for chunk in words.as_chunks::<64>().0 {
                spread.push(L::below(chunk, bound));
                spread.push(L::pack(&chunk.map(|word| (word % 3) as u8)));
            }
        }
        for length in 0..=self.1.len() {
            let (mut input, mut label) = (vec![0i64; length], vec![0i64; length]);
            let ids = &self.1[..length];
            L::copy_hiding(ids, &self.0[5..], -7, &mut input, &mut label);
            assert!(
                label.iter().eq(ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>().iter())
            );
            long.extend(input);
        }
        (words, positions, long, short, spread)
    }
}

#[test]
fn every_level_gives_the_same() {
    let mut state = 1u64;
    let mut words: Vec<u64> = Vec::new();
    for index in 0..40 {
        let mut word = u64::MAX;
        for _ in 0..index % 5 {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
            word &= state ^ state >> 31;
        }
        words.push(word);
    }
    words.push(0);
    let ids: Vec<u16> = (0..150).map(|i| 65_000 + i).collect();
    let expected = Level::Scalar.run(Everything(&words, &ids));
    assert_eq!(expected.1.len() as u32, words.iter().map(|w| w.count_ones()).sum::<u32>());
    assert!(expected.1.is_sorted());
    let hidden = |i: usize| words[5 + i / 64] >> (i % 64) & 1 != 0;
    for (i, id) in expected.2[expected.2.len() - 150..].iter().enumerate() {
        assert_eq!(*id, if hidden(i) { -7 } else { 65_000 + i as i64 });
    }
    let drawn = expected.0.as_chunks::<64>().0;
    let counted: u32 =
        expected.4.iter().rev().take(8).step_by(2).map(|bits| bits.count_ones()).sum();
    assert_eq!(counted as usize, expected.0.iter().filter(|word| **word % 3 != 0).count());
    assert_eq!(expected.4[expected.4.len() - 2], u64::MAX, "every word is below 2^32");
    assert_eq!(drawn.len(), 4);
    for level in [Level::Avx2, Level::Avx512] {
        assert!(expected == level.run(Everything(&words, &ids)), "{level:?}");
    }
}

#[test]
fn levels_have_names() {
    for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
        let found = Level::named(level.name());
        assert_eq!(found.is_ok(), level <= Level::best());
    }
    assert!(Level::named("sse9").unwrap_err().to_string().contains("scalar, avx2 or avx512"));
}
