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
    /// AVX-512 F, BW, DQ, VL and VBMI2: Intel since 2019, AMD since 2022.
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
pub(crate) trait Lanes {
    /// The words of a few blocks from `block` on, in counter order; returns how many.
    fn words(key: Key, id: u64, position: u32, block: u32, out: &mut [u32; 64]) -> usize;

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
                let count = L::words(key, 3 << 40, 5, block, &mut buffer);
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
            let spread = self.0.windows(2).map(|pair| L::deposit(pair[0], pair[1])).collect();
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
        assert_eq!(expected.2[expected.2.len() - 150..], (65_000..65_150).collect::<Vec<i64>>());
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
