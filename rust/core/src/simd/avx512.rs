//! AVX-512 with VBMI2: the widest loops; positions of set bits are found by compressing a ramp.

use std::arch::x86_64::{
    _mm512_add_epi32, _mm512_castsi512_si128, _mm512_cmplt_epu32_mask, _mm512_cvtepu8_epi32,
    _mm512_extracti32x4_epi32, _mm512_loadu_si512, _mm512_maskz_compress_epi8, _mm512_set1_epi32,
    _mm512_storeu_epi32, _mm512_test_epi8_mask, _pdep_u64,
};

use super::lanes::{Job, Lanes, copy_blocks, words_of_blocks};
use super::sets::Avx512;
use crate::rng::Key;
use crate::tokens::{Id, Token};

/// Runs a job. The only caller is [`super::Level::run`], which checks for the features first.
#[inline]
pub(super) fn run<J: Job>(job: J) -> J::Output {
    #[target_feature(
        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx2,bmi1,bmi2,popcnt,lzcnt"
    )]
    fn inner<J: Job>(job: J) -> J::Output {
        job.run::<Avx512>()
    }
    // SAFETY: `Level::run` calls this only if `Level::best` found the features.
    unsafe { inner(job) }
}

/// The bytes 0 to 63.
const RAMP: [u8; 64] = {
    let mut ramp = [0; 64];
    let mut i = 0;
    while i < 64 {
        ramp[i] = i as u8;
        i += 1;
    }
    ramp
};

impl Lanes for Avx512 {
    #[inline(always)]
    fn words(
        key: Key,
        id: u64,
        position: u32,
        block: u32,
        wanted: usize,
        out: &mut [u32; 64],
    ) -> usize {
        if wanted > 32 {
            words_of_blocks::<16>(key, id, position, block, out)
        } else {
            words_of_blocks::<8>(key, id, position, block, out)
        }
    }

    #[inline(always)]
    fn below(words: &[u32; 64], bound: u64) -> u64 {
        let Ok(bound) = u32::try_from(bound) else { return u64::MAX };
        let mut bits = 0;
        for (place, sixteen) in words.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: AVX-512 was detected before any job runs with these lanes, and there are 16
            // words.
            let below = unsafe {
                let words = _mm512_loadu_si512(sixteen.as_ptr().cast());
                _mm512_cmplt_epu32_mask(words, _mm512_set1_epi32(bound as i32))
            };
            bits |= u64::from(below) << (16 * place);
        }
        bits
    }

    #[inline(always)]
    fn pack(bytes: &[u8; 64]) -> u64 {
        // SAFETY: AVX-512 was detected before any job runs with these lanes, and there are 64
        // bytes.
        unsafe {
            let bytes = _mm512_loadu_si512(bytes.as_ptr().cast());
            _mm512_test_epi8_mask(bytes, bytes)
        }
    }

    #[inline(always)]
    fn copy_hiding<T: Token, O: Id>(
        ids: &[T],
        hidden: &[u64],
        filler: O,
        input: &mut [O],
        label: &mut [O],
    ) {
        let (whole, rest) = ids.as_chunks::<8>();
        let shown = label.as_chunks_mut::<8>().0.iter_mut().zip(input.as_chunks_mut::<8>().0);
        for (place, (ids, (label, input))) in whole.iter().zip(shown).enumerate() {
            let bits = hidden[place / 8] >> (8 * (place % 8));
            // The compiler turns this selection by the bits of a byte into a masked move.
            for lane in 0..8 {
                label[lane] = O::from_token(ids[lane]);
                input[lane] = if bits >> lane & 1 != 0 { filler } else { label[lane] };
            }
        }
        let done = 8 * whole.len();
        for (lane, id) in rest.iter().enumerate() {
            let token = done + lane;
            label[token] = O::from_token(*id);
            let hides = hidden[token / 64] >> (token % 64) & 1 != 0;
            input[token] = if hides { filler } else { label[token] };
        }
    }

    #[inline(always)]
    fn positions(words: &[u64], out: &mut [u32]) -> usize {
        let mut end = 0;
        for (index, word) in words.iter().enumerate() {
            let count = word.count_ones() as usize;
            assert!(end + 64 <= out.len());
            // SAFETY: VBMI2 was detected before any job runs with these lanes, the ramp has 64
            // bytes, and the assertion above leaves room for the four vectors of 16 that may be
            // stored.
            unsafe {
                let ramp = _mm512_loadu_si512(RAMP.as_ptr().cast());
                let packed = _mm512_maskz_compress_epi8(*word, ramp);
                let base = _mm512_set1_epi32(64 * index as i32);
                let to = out.as_mut_ptr().add(end);
                let store = |part, offset: usize| {
                    let wide = _mm512_add_epi32(_mm512_cvtepu8_epi32(part), base);
                    _mm512_storeu_epi32(to.add(offset).cast::<i32>(), wide);
                };
                store(_mm512_castsi512_si128(packed), 0);
                if count > 16 {
                    store(_mm512_extracti32x4_epi32::<1>(packed), 16);
                }
                if count > 32 {
                    store(_mm512_extracti32x4_epi32::<2>(packed), 32);
                    store(_mm512_extracti32x4_epi32::<3>(packed), 48);
                }
            }
            end += count;
        }
        end
    }

    #[inline(always)]
    fn copy_long<T: Token, O: Id>(from: &[T], to: &mut [O], length: usize) {
        copy_blocks::<T, O, 32>(from, to, length);
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
