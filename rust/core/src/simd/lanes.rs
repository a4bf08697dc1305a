//! Kernels as jobs over the operations that each instruction set implements, and plain loops for
//! the sets that have nothing better.

use super::quads::Quads;
use super::weights::Weights;
use crate::rng::{Key, philox_blocks};
use crate::tokens::{Id, Token};

/// Work that is compiled once for every level. `run` and every function that it calls in its loops
/// must be `#[inline(always)]`: only then are they compiled with the features of the level.
pub(crate) trait Job {
    /// The type of the result.
    type Output;
    /// Does the work with the operations of one level.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// The operations that each level implements in its own way.
pub(crate) trait Lanes: Quads + Weights {
    /// Writes the words of a few blocks, starting with `block`, in counter order, and returns how
    /// many words there are. `wanted` is an estimate of how many the caller will use.
    fn words(
        key: Key,
        id: u64,
        position: u32,
        block: u32,
        wanted: usize,
        out: &mut [u32; 64],
    ) -> usize;

    /// Returns a mask whose bit `i` is set where word `i` is below `bound`, which may be 2^32.
    fn below(words: &[u32; 64], bound: u64) -> u64;

    /// Returns a mask whose bit `i` is set where byte `i` is not 0.
    fn pack(bytes: &[u8; 64]) -> u64;

    /// Copies ids to both `label` and `input`, but writes `filler` to `input` where a bit of
    /// `hidden` is set.
    fn copy_hiding<T: Token, O: Id>(
        ids: &[T],
        hidden: &[u64],
        filler: O,
        input: &mut [O],
        label: &mut [O],
    );

    /// Writes the positions of the set bits of `words` in ascending order, and returns how many
    /// there are. `out` must have [`SLACK`] slots more than there are set bits.
    fn positions(words: &[u64], out: &mut [u32]) -> usize;

    /// Widens and copies `length` ids in long blocks. Where there is room, it also writes arbitrary
    /// values past the end of the run, which the caller must overwrite.
    fn copy_long<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize);

    /// Like [`Self::copy_long`], but in short blocks, for runs of a few ids.
    fn copy_short<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize);

    /// Deposits the low bits of `bits` at the set bits of `mask`, lowest first (the instruction
    /// `pdep`).
    fn deposit(bits: u64, mask: u64) -> u64;
}

/// Number of slots past the last position that [`Lanes::positions`] may write to.
pub(crate) const SLACK: usize = 64;

/// Widens and copies ids in blocks of `N`, or one by one near the end of a buffer, where no whole
/// block fits.
#[inline(always)]
pub(super) fn copy_blocks<T: Token, O: Id, const N: usize>(
    from: &[T],
    to: &mut [O],
    length: usize,
) {
    let whole = length.next_multiple_of(N);
    if whole <= from.len() && whole <= to.len() {
        let (from, to) = (from[..whole].as_chunks::<N>().0, to[..whole].as_chunks_mut::<N>().0);
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.map(O::from_token);
        }
    } else {
        for (to, from) in to[..length].iter_mut().zip(&from[..length]) {
            *to = O::from_token(*from);
        }
    }
}

/// [`Lanes::below`] as a plain loop.
#[inline(always)]
pub(super) fn compare_words(words: &[u32; 64], bound: u64) -> u64 {
    let mut bits = 0;
    for (place, word) in words.iter().enumerate() {
        bits |= u64::from(u64::from(*word) < bound) << place;
    }
    bits
}

/// [`Lanes::copy_hiding`] as a copy followed by a store for each hidden id.
#[inline(always)]
pub(super) fn copy_then_hide<T: Token, O: Id>(
    ids: &[T],
    hidden: &[u64],
    filler: O,
    input: &mut [O],
    label: &mut [O],
) {
    for ((input, label), id) in input.iter_mut().zip(label.iter_mut()).zip(ids) {
        *input = O::from_token(*id);
        *label = O::from_token(*id);
    }
    for (word, input) in hidden.iter().zip(input.chunks_mut(64)) {
        let mut rest = if input.len() == 64 { *word } else { *word & ((1 << input.len()) - 1) };
        while rest != 0 {
            input[rest.trailing_zeros() as usize] = filler;
            rest &= rest - 1;
        }
    }
}

/// Writes the words of `N` blocks in counter order, and returns how many words there are.
#[inline(always)]
pub(super) fn words_of_blocks<const N: usize>(
    key: Key,
    id: u64,
    position: u32,
    block: u32,
    out: &mut [u32; 64],
) -> usize {
    let lanes = philox_blocks::<N>(key, id, position, block);
    for lane in 0..N {
        for word in 0..4 {
            out[4 * lane + word] = lanes[word][lane];
        }
    }
    4 * N
}
