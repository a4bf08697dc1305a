//! Words of a row as bits of its tokens, for masks: 64 tokens at a time.

use crate::simd::Lanes;

/// The 64 bits from bit `start` on; bits beyond the end are 0.
#[inline(always)]
pub(super) fn window(bits: &[u64], start: usize) -> u64 {
    let (word, shift) = (start / 64, start % 64);
    let low = bits.get(word).copied().unwrap_or_default();
    let high = bits.get(word + 1).copied().unwrap_or_default();
    low >> shift | high << 1 << (63 - shift)
}

/// Turns the bits of special tokens into those of the words that hold one; returns the number of words.
/// `starts` has a bit for each first token of a word.
#[inline(always)]
pub(super) fn special_words(starts: &[u64], special: &[u64], words: &mut Vec<u64>) -> usize {
    words.clear();
    words.resize(starts.len(), 0);
    let mut before = 0;
    for (starts, special) in starts.iter().zip(special) {
        let mut left = *special;
        while left != 0 {
            // Up to the special token, and including it.
            let through = starts & (left ^ (left - 1));
            let word = before + through.count_ones() as usize - 1;
            words[word / 64] |= 1 << (word % 64);
            left &= left - 1;
        }
        before += starts.count_ones() as usize;
    }
    words.truncate(before.div_ceil(64));
    before
}

/// Writes the bits of all tokens of the chosen words.
///
/// The bits of the words are put at their first tokens. A sum carries them on through the other
/// tokens of each word: those are ones, and the next word starts at a zero.
#[inline(always)]
pub(super) fn spread<L: Lanes>(words: &[u64], starts: &[u64], tokens: usize, bits: &mut Vec<u64>) {
    bits.clear();
    let (mut before, mut last, mut carry) = (0, 0, false);
    for (index, starts) in starts.iter().enumerate() {
        let left = tokens - 64 * index;
        let inner = !starts & if left >= 64 { u64::MAX } else { (1 << left) - 1 };
        let first = L::deposit(window(words, before), *starts);
        let second = (first << 1 | last) & inner;
        let (sum, over) = inner.overflowing_add(second);
        let (sum, again) = sum.overflowing_add(u64::from(carry));
        bits.push(first | inner & !sum);
        (last, carry) = (first >> 63, over | again);
        before += starts.count_ones() as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::super::words_of_row::RowWords;
    use super::*;
    use crate::rng::{Key, Stream};
    use crate::simd::{Job, Level};

    struct Spread<'a>(&'a [u64], &'a [u64], usize);

    impl Job for Spread<'_> {
        type Output = Vec<u64>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u64> {
            let mut bits = vec![7];
            spread::<L>(self.0, self.1, self.2, &mut bits);
            bits
        }
    }

    fn as_bits(length: usize, set: impl Fn(usize) -> bool) -> Vec<u64> {
        let mut bits = vec![0; length.div_ceil(64)];
        (0..length)
            .filter(|place| set(*place))
            .for_each(|place| bits[place / 64] |= 1 << (place % 64));
        bits
    }

    #[test]
    fn words_as_bits_are_the_words_one_by_one() {
        // Ids below 10 start a word, or below 2 or 60 of 64, so that words are longer than 64 tokens too.
        for (sample, length) in
            [1usize, 2, 63, 64, 65, 128, 200, 700].into_iter().cycle().take(48).enumerate()
        {
            let mut source = Key::new(5, 0, Stream::Mask).words_from(sample as u64, 0);
            let limit = [10, 2, 60][sample / 8 % 3];
            let ids: Vec<u16> = (0..length).map(|_| source.below(64) as u16).collect();
            let table: Vec<bool> = (0..64).map(|id| id < limit).collect();
            let mut slow = RowWords::default();
            slow.read(&ids, Some(&table), &[7, 33]);
            let starts = as_bits(length, |place| place == 0 || table[usize::from(ids[place])]);
            let special = as_bits(length, |place| [7, 33].contains(&ids[place]));
            let mut words = vec![9];
            assert_eq!(special_words(&starts, &special, &mut words), slow.count());
            let expected = as_bits(slow.count(), |w| slow.special[w / 64] >> (w % 64) & 1 == 1);
            assert_eq!(words, expected);
            let chosen: Vec<bool> = (0..slow.count()).map(|_| source.below(3) == 0).collect();
            let tokens = as_bits(length, |place| {
                chosen[slow.starts.partition_point(|start| *start as usize <= place) - 1]
            });
            let bits = as_bits(chosen.len(), |word| chosen[word]);
            for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
                assert_eq!(level.run(Spread(&bits, &starts, length)), tokens);
            }
        }
    }
}
