//! Instruction sets: a kernel is written once, compiled for each, and chosen when it runs.
//!
//! A kernel is a [`Job`]; inside it the vector code is the compiler's, made from plain loops under
//! the features of the level. Only what loops cannot say is written by hand, once a level: see
//! [`Lanes`]. Every level gives the same bits.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
pub(crate) mod quads;
mod scalar;

use crate::rng::{Key, philox_blocks};
use crate::tokens::{Id, Token};
use crate::{Error, Result};
use scalar::Scalar;

/// What a kernel may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The baseline of the target: SSE2 on x86-64.
    Scalar,
    /// AVX2 with BMI1 and BMI2: Intel since 2013, AMD since 2015.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, VBMI and VBMI2: Intel since 2019, AMD since 2022.
    Avx512,
}

impl Level {
    /// The best level of this machine.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("lzcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vbmi2");
            if avx2 && avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// The level of a name, as `METRO_FAST_SIMD` spells it.
    ///
    /// # Errors
    /// An unknown name, or a level that this machine does not have.
    pub fn named(name: &str) -> Result<Self> {
        let level = match name {
            "scalar" => Self::Scalar,
            "avx2" => Self::Avx2,
            "avx512" => Self::Avx512,
            _ => return Err(Error::argument("METRO_FAST_SIMD", name, "scalar, avx2 or avx512")),
        };
        if level > Self::best() {
            return Err(Error::argument(
                "METRO_FAST_SIMD",
                name,
                format!("at most {}, the best of this machine", Self::best().name()),
            ));
        }
        Ok(level)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Runs a job under this level, or the best of the machine where that is less.
    #[inline]
    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        match self.min(Self::best()) {
            Self::Scalar => job.run::<Scalar>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::run(job),
            #[cfg(not(target_arch = "x86_64"))]
            _ => job.run::<Scalar>(),
        }
    }
}

/// Work that is compiled for every level: `run` must be `#[inline(always)]`, down to its loops.
pub(crate) trait Job {
    /// What it returns.
    type Output;
    /// Does it.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// What a level does in its own way.
pub(crate) trait Lanes: quads::Quads {
    /// The words of a few blocks from `block` on, in counter order; returns how many. `wanted` is a
    /// guess of how many will be looked at.
    fn words(
        key: Key,
        id: u64,
        position: u32,
        block: u32,
        wanted: usize,
        out: &mut [u32; 64],
    ) -> usize;

    /// Bit `i` is set where word `i` is below `bound`, which may be 2^32.
    fn below(words: &[u32; 64], bound: u64) -> u64;

    /// Bit `i` is set where byte `i` is not 0.
    fn pack(bytes: &[u8; 64]) -> u64;

    /// Copies ids twice: to `label`, and to `input` with `filler` where the bits of `hidden` are set.
    fn copy_hiding<T: Token, O: Id>(
        ids: &[T],
        hidden: &[u64],
        filler: O,
        input: &mut [O],
        label: &mut [O],
    );

    /// Writes the set bits of `words`, ascending; returns how many. `out` must have [`SLACK`] slots
    /// more than there are set bits.
    fn positions(words: &[u64], out: &mut [u32]) -> usize;

    /// Copies `length` ids in long blocks, widened. What is written past the run, where there is
    /// room, is garbage: the caller writes over it.
    fn copy_long<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize);

    /// The same in short blocks, for runs of a few ids.
    fn copy_short<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize);

    /// Spreads the low bits of `bits` over the set bits of `mask`, from the lowest on.
    fn deposit(bits: u64, mask: u64) -> u64;
}

/// Slots past the last position that [`Lanes::positions`] may write.
pub(crate) const SLACK: usize = 64;

/// Copies in blocks of `N`; the last ids of a buffer, where no block fits, one by one.
#[inline(always)]
fn copy_blocks<T: Token, O: Id, const N: usize>(from: &[T], to: &mut [O], length: usize) {
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

/// `below` of plain words.
#[inline(always)]
fn compare_words(words: &[u32; 64], bound: u64) -> u64 {
    let mut bits = 0;
    for (place, word) in words.iter().enumerate() {
        bits |= u64::from(u64::from(*word) < bound) << place;
    }
    bits
}

/// `copy_hiding` with a store for every hidden id.
#[inline(always)]
fn copy_then_hide<T: Token, O: Id>(
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

/// The words of `N` blocks in counter order.
#[inline(always)]
fn words_of_blocks<const N: usize>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

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
}
