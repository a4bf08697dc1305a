//! AVX2: wider loops, and the instruction `pdep` of BMI2.

use std::arch::x86_64::{
    _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_setzero_si256, _pdep_u64,
};

use super::lanes::{Job, Lanes, compare_words, copy_blocks, copy_then_hide, words_of_blocks};
use super::scalar;
use super::sets::Avx2;
use crate::rng::Key;
use crate::tokens::{Id, Token};

/// Runs a job. The only caller is [`super::Level::run`], which checks for the features first.
#[inline]
pub(super) fn run<J: Job>(job: J) -> J::Output {
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    fn inner<J: Job>(job: J) -> J::Output {
        job.run::<Avx2>()
    }
    // SAFETY: `Level::run` calls this only if `Level::best` found the features.
    unsafe { inner(job) }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn words(
        key: Key,
        id: u64,
        position: u32,
        block: u32,
        wanted: usize,
        out: &mut [u32; 64],
    ) -> usize {
        if wanted > 16 {
            words_of_blocks::<8>(key, id, position, block, out)
        } else {
            words_of_blocks::<4>(key, id, position, block, out)
        }
    }

    #[inline(always)]
    fn below(words: &[u32; 64], bound: u64) -> u64 {
        compare_words(words, bound)
    }

    #[inline(always)]
    fn pack(bytes: &[u8; 64]) -> u64 {
        let (halves, _) = bytes.as_chunks::<32>();
        let zeros = |half: &[u8; 32]| {
            // SAFETY: AVX2 was detected before any job runs with these lanes, and a half has 32
            // bytes.
            unsafe {
                let half = _mm256_loadu_si256(half.as_ptr().cast());
                _mm256_movemask_epi8(_mm256_cmpeq_epi8(half, _mm256_setzero_si256())) as u32
            }
        };
        !(u64::from(zeros(&halves[0])) | u64::from(zeros(&halves[1])) << 32)
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
        scalar::positions(words, out)
    }

    #[inline(always)]
    fn copy_long<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize) {
        copy_blocks::<T, O, 16>(from, to, length);
    }

    #[inline(always)]
    fn copy_short<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize) {
        copy_blocks::<T, O, 8>(from, to, length);
    }

    #[inline(always)]
    fn deposit(bits: u64, mask: u64) -> u64 {
        // SAFETY: BMI2 was detected before any job runs with these lanes.
        unsafe { _pdep_u64(bits, mask) }
    }
}
