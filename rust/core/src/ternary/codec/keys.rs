//! From trits to the keys of quads, and counts over keys.

use crate::memory;
use crate::simd::Lanes;
use crate::simd::quads::{KINDS, SYMBOL_OF_KEY, nibbles_apart};

/// Number of keys that a decoder passes on at a time. Blocks are small enough that the values of
/// one block are written while the next is decoded, which takes 0.09 ns per trit; two passes over a
/// stream take 0.12.
pub(super) const BLOCK: usize = 1024;

/// Takes blocks of keys. This is a trait and not a closure because its method can be marked as
/// inlined; otherwise it would be compiled for the baseline.
pub(super) trait TakeKeys {
    /// Takes the next keys.
    ///
    /// # Errors
    /// If the keys are not accepted.
    fn take(&mut self, keys: &[u8]) -> Result<(), crate::Error>;
}

/// Writes the keys of the trits to `keys`, zeros for whole rows of 64 trits, and returns those of the
/// trits; the last quad is filled up with zeros.
///
/// # Errors
/// The index of the first entry that is not a trit.
#[inline(always)]
pub(super) fn keys_of_trits<'a, L: Lanes>(
    trits: &[i8],
    keys: &'a mut [u8],
) -> Result<&'a [u8], usize> {
    let (rows, rest) = trits.as_chunks::<64>();
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    for (row, keys) in rows.iter().chain(last).zip(keys.as_chunks_mut::<16>().0) {
        let wrong = row.iter().fold(false, |wrong, trit| wrong | (trit.wrapping_add(1) as u8 > 2));
        if wrong {
            // Search from the beginning: this is the rare case.
            let index = trits.iter().position(|trit| !(-1..=1).contains(trit));
            return Err(index.unwrap_or_default());
        }
        let present = L::pack(&row.map(|trit| trit as u8));
        let negative = L::pack(&row.map(|trit| trit as u8 & 128));
        for (half, keys) in keys.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let of = |plane: u64| nibbles_apart((plane >> (32 * half)) as u32);
            *keys = (of(present) | of(negative) << 4).to_le_bytes();
        }
    }
    Ok(&keys[..trits.len().div_ceil(4)])
}

/// Counts the quads with 0, 1, 2, 3 and 4 nonzero trits.
pub(super) fn kinds_of_keys(keys: &[u8]) -> [u64; KINDS] {
    // Two tables, because equal keys often follow each other, and each would wait for the count of
    // the last.
    let mut counts = [[0u32; 16]; 2];
    for pair in keys.chunks(2) {
        for (counts, key) in counts.iter_mut().zip(pair) {
            counts[usize::from(key & 15)] += 1;
        }
    }
    let mut kinds = [0; KINDS];
    for mask in 0..16u32 {
        kinds[mask.count_ones() as usize] +=
            u64::from(counts[0][mask as usize]) + u64::from(counts[1][mask as usize]);
    }
    kinds
}

/// Counts the nonzero trits of the keys.
#[inline(always)]
pub(super) fn nonzeros(keys: &[u8]) -> u64 {
    let (words, rest) = keys.as_chunks::<8>();
    let of = |word: u64| u64::from((word & 0x0f0f_0f0f_0f0f_0f0f).count_ones());
    words.iter().map(|word| of(u64::from_le_bytes(*word))).sum::<u64>()
        + rest.iter().map(|key| of(u64::from(*key))).sum::<u64>()
}

/// Returns the symbol of each key, filled up to whole rows, because quads past the end are coded
/// too.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub(super) fn symbols_of_keys(keys: &[u8], row: usize) -> crate::Result<Vec<u8>> {
    let mut symbols = memory::with_room(keys.len().next_multiple_of(row))?;
    symbols.extend(keys.iter().map(|key| SYMBOL_OF_KEY[usize::from(*key)]));
    symbols.resize(keys.len().next_multiple_of(row), 0);
    Ok(symbols)
}

/// Whether every trit of `from..to` is zero.
pub(crate) fn zero_between(keys: &[u8], from: usize, to: usize) -> bool {
    let bits = |quad: usize, first: usize, end: usize| {
        keys[quad] & 15 & (15 << first) & ((1 << end) - 1) as u8 == 0
    };
    if from >= to {
        return true;
    }
    let (first, last) = (from / 4, (to - 1) / 4);
    if first == last {
        return bits(first, from % 4, (to - 1) % 4 + 1);
    }
    bits(first, from % 4, 4)
        && keys[first + 1..last].iter().all(|key| *key == 0)
        && bits(last, 0, (to - 1) % 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Job, Level};

    impl TakeKeys for Vec<u8> {
        fn take(&mut self, keys: &[u8]) -> Result<(), crate::Error> {
            self.extend_from_slice(keys);
            Ok(())
        }
    }

    struct Keys<'a>(&'a [i8]);
    impl Job for Keys<'_> {
        type Output = Result<Vec<u8>, usize>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Self::Output {
            let mut keys = vec![0; self.0.len().next_multiple_of(64) / 4];
            keys_of_trits::<L>(self.0, &mut keys).map(<[u8]>::to_vec)
        }
    }

    #[test]
    fn keys_worked_by_hand() {
        let mut trits = vec![0i8; 201];
        (trits[0], trits[2], trits[3], trits[200]) = (1, -1, 1, -1);
        for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
            let keys = level.run(Keys(&trits)).unwrap();
            assert_eq!((keys.len(), keys[0], keys[1], keys[50]), (51, 0b0100_1101, 0, 0b0001_0001));
            assert_eq!(nonzeros(&keys), 4);
            assert_eq!(kinds_of_keys(&keys), [49, 1, 0, 1, 0]);
            for wrong in [2, -2, i8::MAX, i8::MIN] {
                let mut trits = trits.clone();
                trits[130] = wrong;
                assert_eq!(level.run(Keys(&trits)), Err(130));
            }
        }
    }

    #[test]
    fn zeros_between() {
        let keys = [0b0010_0010, 0, 0, 0b1000];
        assert!(zero_between(&keys, 2, 15));
        assert!(
            zero_between(&keys, 0, 1) && zero_between(&keys, 2, 4) && zero_between(&keys, 5, 5)
        );
        assert!(!zero_between(&keys, 1, 2) && !zero_between(&keys, 0, 4));
        assert!(!zero_between(&keys, 2, 16) && !zero_between(&keys, 12, 16));
    }
}
