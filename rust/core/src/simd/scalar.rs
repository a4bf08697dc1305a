//! The baseline: plain code, which the compiler vectorizes for whatever the target has.

use super::lanes::{Lanes, compare_words, copy_blocks, copy_then_hide, words_of_blocks};
use super::sets::Scalar;
use crate::rng::Key;
use crate::tokens::{Id, Token};

impl Lanes for Scalar {
    #[inline(always)]
    fn words(
        key: Key,
        id: u64,
        position: u32,
        block: u32,
        _wanted: usize,
        out: &mut [u32; 64],
    ) -> usize {
        words_of_blocks::<4>(key, id, position, block, out)
    }

    #[inline(always)]
    fn below(words: &[u32; 64], bound: u64) -> u64 {
        compare_words(words, bound)
    }

    #[inline(always)]
    fn pack(bytes: &[u8; 64]) -> u64 {
        pack(bytes)
    }

    #[inline(always)]
    fn copy_hiding<T: Token, O: Id>(
        ids: &[T],
        hidden: &[u64],
        filler: O,
        input: &mut [O],
        label: &mut [O],
    ) {
        copy_then_hide(ids, hidden, filler, input, label);
    }

    #[inline(always)]
    fn positions(words: &[u64], out: &mut [u32]) -> usize {
        positions(words, out)
    }

    #[inline(always)]
    fn copy_long<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize) {
        copy_blocks::<T, O, 8>(from, to, length);
    }

    #[inline(always)]
    fn copy_short<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize) {
        copy_blocks::<T, O, 8>(from, to, length);
    }

    #[inline(always)]
    fn deposit(mut bits: u64, mut mask: u64) -> u64 {
        let mut out = 0;
        while mask != 0 && bits != 0 {
            let lowest = mask & mask.wrapping_neg();
            if bits & 1 != 0 {
                out |= lowest;
            }
            bits >>= 1;
            mask ^= lowest;
        }
        out
    }
}

/// Number of bits that are read from a word without checking how many are set.
const AT_ONCE: usize = 8;

/// Reads eight bits of a word unconditionally and checks only then whether there are more: a loop
/// that ends with the last set bit mispredicts once per word (simdjson's `flatten_bits`).
#[inline(always)]
pub(super) fn positions(words: &[u64], out: &mut [u32]) -> usize {
    let mut end = 0;
    for (index, word) in words.iter().enumerate() {
        let (mut rest, base, count) = (*word, 64 * index as u32, word.count_ones() as usize);
        let mut written = 0;
        while {
            for slot in &mut out[end + written..][..AT_ONCE] {
                *slot = base + rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
            }
            written += AT_ONCE;
            written < count
        } {}
        end += count;
    }
    end
}

/// [`Lanes::pack`] by one multiplication for every eight bytes.
#[inline(always)]
fn pack(bytes: &[u8; 64]) -> u64 {
    let mut bits = 0;
    for (place, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let ones = eight.map(|byte| u8::from(byte != 0));
        // The product brings bit 0 of byte i to bit 56 + i, and no two of its terms collide.
        let packed = u64::from_le_bytes(ones).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits |= packed << (8 * place);
    }
    bits
}
