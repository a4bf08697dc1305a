//! AVX-512 with VBMI and VBMI2: sixteen states at a time.

mod spread;

use std::arch::x86_64::{
    __m256i, __m512i, _mm_loadu_si128, _mm_setzero_si128, _mm_sfence, _mm256_loadu_si256,
    _mm256_mask_compressstoreu_epi16, _mm512_add_epi32, _mm512_and_si512, _mm512_castsi128_si512,
    _mm512_castsi256_si512, _mm512_castsi512_si256, _mm512_cmpge_epu32_mask,
    _mm512_cmplt_epu32_mask, _mm512_cvtepi32_epi8, _mm512_cvtepi32_epi16, _mm512_cvtepu8_epi32,
    _mm512_cvtepu16_epi32, _mm512_cvtepu32_epi64, _mm512_cvtepu32_pd, _mm512_cvttpd_epu32,
    _mm512_extracti64x4_epi64, _mm512_inserti32x4, _mm512_inserti64x4, _mm512_loadu_pd,
    _mm512_loadu_si512, _mm512_mask_add_epi32, _mm512_mask_mov_epi32, _mm512_mask_or_epi32,
    _mm512_mask_srli_epi32, _mm512_maskz_expand_epi32, _mm512_maskz_mov_epi8, _mm512_mul_epu32,
    _mm512_mul_pd, _mm512_mullo_epi32, _mm512_or_si512, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi32, _mm512_permutexvar_pd, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_slli_epi64, _mm512_srli_epi32,
    _mm512_srli_epi64, _mm512_storeu_si512, _mm512_sub_epi32, _pdep_u64, _pext_u32,
};

use self::spread::{Three, spread};
use super::super::sets::Avx512;
use super::symbols::{Class, KEYS, KIND_FIRST, KINDS, SCALE_BITS, SYMBOLS};
use super::{Encoder, Quads, ROW, Value, WORD_SLACK};

/// Frequency, first slot and reciprocal of each kind.
pub(crate) struct Kinds {
    frequency: [u32; 16],
    first_slot: [u32; 16],
    reciprocal: [u32; 16],
}

const fn sixteen(kinds: &[u32; KINDS]) -> [u32; 16] {
    let mut all = [0; 16];
    let mut kind = 0;
    while kind < KINDS {
        all[kind] = kinds[kind];
        kind += 1;
    }
    all
}

const FIRST_SYMBOL: [u32; 16] = sixteen(&KIND_FIRST);

const KEY_TABLE: [u8; 128] = {
    let mut table = [0; 128];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        table[symbol] = KEYS[symbol];
        symbol += 1;
    }
    table
};

impl Quads for Avx512 {
    type Decoder = Kinds;

    fn decoder(class: &Class) -> Kinds {
        let [first @ .., _] = class.first_slot;
        Kinds {
            frequency: sixteen(&class.frequency),
            first_slot: sixteen(&first),
            reciprocal: sixteen(&class.reciprocal),
        }
    }

    #[inline(always)]
    fn decode_row(
        kinds: &Kinds,
        states: &mut [u32; ROW],
        words: &[[u8; 2]; ROW],
        keys: &mut [u8; ROW],
    ) -> usize {
        let mut taken = 0;
        // SAFETY: AVX-512 was detected before any job runs with these lanes; 64 states fill four
        // vectors, 64 keys one, and a table of 128 bytes two. A vector takes at most 16 words, so
        // `taken` is at most 48 when sixteen of the 64 words are loaded.
        unsafe {
            let mut symbols = [_mm_setzero_si128(); 4];
            for (states, symbols) in states.as_chunks_mut::<16>().0.iter_mut().zip(&mut symbols) {
                let state = _mm512_loadu_si512(states.as_ptr().cast());
                let (moved, symbol) = step(kinds, state);
                *symbols = _mm512_cvtepi32_epi8(symbol);
                let low = _mm512_cmplt_epu32_mask(moved, _mm512_set1_epi32(1 << 16));
                let next = words.as_ptr().add(taken).cast();
                let next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(next));
                let shifted = _mm512_slli_epi32::<16>(moved);
                let next = _mm512_maskz_expand_epi32(low, next);
                let filled = _mm512_mask_or_epi32(moved, low, shifted, next);
                _mm512_storeu_si512(states.as_mut_ptr().cast(), filled);
                taken += low.count_ones() as usize;
            }
            let symbols = _mm512_inserti32x4::<3>(
                _mm512_inserti32x4::<2>(
                    _mm512_inserti32x4::<1>(_mm512_castsi128_si512(symbols[0]), symbols[1]),
                    symbols[2],
                ),
                symbols[3],
            );
            let table = KEY_TABLE.as_ptr();
            let found = _mm512_permutex2var_epi8(
                _mm512_loadu_si512(table.cast()),
                symbols,
                _mm512_loadu_si512(table.add(64).cast()),
            );
            _mm512_storeu_si512(keys.as_mut_ptr().cast(), found);
        }
        taken
    }

    #[inline(always)]
    fn encode_row(
        encoder: &Encoder,
        states: &mut [u32; ROW],
        symbols: &[u8; ROW],
        words: &mut [u16; ROW + WORD_SLACK],
    ) -> usize {
        let mut count = 0;
        // SAFETY: AVX-512 was detected before any job runs with these lanes; 64 states fill four
        // vectors, and 64 symbols four quarters of one. A vector stores at most 16 words, after at
        // most 48 earlier ones.
        unsafe {
            let load = |words: &[u32; 8]| {
                _mm512_castsi256_si512(_mm256_loadu_si256(words.as_ptr().cast()))
            };
            let (frequency, base) = (load(&encoder.frequency), load(&encoder.base));
            let inverse = _mm512_loadu_pd(encoder.inverse.as_ptr());
            let parts = states.as_chunks_mut::<16>().0.iter_mut();
            for (states, symbols) in parts.zip(symbols.as_chunks::<16>().0) {
                let symbol = _mm512_cvtepu8_epi32(_mm_loadu_si128(symbols.as_ptr().cast()));
                let mut kind = _mm512_setzero_si512();
                for first in &KIND_FIRST[1..] {
                    let first = _mm512_set1_epi32(*first as i32);
                    let above = _mm512_cmpge_epu32_mask(symbol, first);
                    kind = _mm512_mask_add_epi32(kind, above, kind, _mm512_set1_epi32(1));
                }
                let f = _mm512_permutexvar_epi32(kind, frequency);
                let state = _mm512_loadu_si512(states.as_ptr().cast());
                let full = _mm512_cmpge_epu32_mask(state, _mm512_slli_epi32::<18>(f));
                _mm256_mask_compressstoreu_epi16(
                    words.as_mut_ptr().add(count).cast(),
                    full,
                    _mm512_cvtepi32_epi16(state),
                );
                count += full.count_ones() as usize;
                let rest = _mm512_mask_srli_epi32::<16>(state, full, state);
                let divide = |x: __m256i, kind: __m256i| {
                    let inverse = _mm512_permutexvar_pd(_mm512_cvtepu32_epi64(kind), inverse);
                    _mm512_cvttpd_epu32(_mm512_mul_pd(_mm512_cvtepu32_pd(x), inverse))
                };
                let low = divide(_mm512_castsi512_si256(rest), _mm512_castsi512_si256(kind));
                let high = divide(
                    _mm512_extracti64x4_epi64::<1>(rest),
                    _mm512_extracti64x4_epi64::<1>(kind),
                );
                let quotient = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
                let rest = _mm512_sub_epi32(rest, _mm512_mullo_epi32(quotient, f));
                let slot = _mm512_add_epi32(
                    _mm512_permutexvar_epi32(kind, base),
                    _mm512_mullo_epi32(symbol, f),
                );
                let state = _mm512_add_epi32(
                    _mm512_slli_epi32::<14>(quotient),
                    _mm512_add_epi32(rest, slot),
                );
                _mm512_storeu_si512(states.as_mut_ptr().cast(), state);
            }
        }
        count
    }

    #[inline(always)]
    fn keys_of_bits(mask: u32, signs: u32) -> u64 {
        // SAFETY: BMI2 was detected before any job runs with these lanes.
        unsafe {
            let negative = _pdep_u64(signs.into(), mask.into());
            _pdep_u64(mask.into(), 0x0f0f_0f0f_0f0f_0f0f)
                | _pdep_u64(negative, 0xf0f0_f0f0_f0f0_f0f0)
        }
    }

    #[inline(always)]
    fn extract(negative: u32, mask: u32) -> u32 {
        // SAFETY: BMI2 was detected before any job runs with these lanes.
        unsafe { _pext_u32(negative, mask) }
    }

    #[inline(always)]
    fn bytes_of_bits(words: &[u64], bytes: &mut [u8; 64]) {
        // SAFETY: AVX-512 was detected before any job runs with these lanes, and there are 64 bytes.
        unsafe {
            let mut all = _mm512_setzero_si512();
            for (shift, word) in words.iter().enumerate() {
                let bit = _mm512_set1_epi8(1i8.wrapping_shl(shift as u32));
                all = _mm512_or_si512(all, _mm512_maskz_mov_epi8(*word, bit));
            }
            _mm512_storeu_si512(bytes.as_mut_ptr().cast(), all);
        }
    }

    type Table<T: Value> = Three<T>;

    #[inline(always)]
    fn table<T: Value>(values: [T; 3]) -> Three<T> {
        Three(values)
    }

    #[inline(always)]
    fn spread<T: Value>(table: &Three<T>, keys: &[u8], out: &mut [T], past: bool) {
        spread(table, keys, out, past);
    }

    #[inline(always)]
    fn fence() {
        // SAFETY: every x86-64 machine has SSE.
        unsafe { _mm_sfence() };
    }
}

/// Advances sixteen states by one symbol, without refilling them: returns the new states and the symbols.
///
/// # Safety
/// Needs AVX-512.
#[inline(always)]
unsafe fn step(kinds: &Kinds, state: __m512i) -> (__m512i, __m512i) {
    // SAFETY: the caller has AVX-512; arrays of sixteen words are one vector.
    unsafe {
        let load = |words: &[u32; 16]| _mm512_loadu_si512(words.as_ptr().cast());
        let slot = _mm512_and_si512(state, _mm512_set1_epi32((1 << SCALE_BITS) - 1));
        let mut kind = _mm512_setzero_si512();
        for first in &kinds.first_slot[1..KINDS] {
            let above = _mm512_cmpge_epu32_mask(slot, _mm512_set1_epi32(*first as i32));
            kind = _mm512_mask_add_epi32(kind, above, kind, _mm512_set1_epi32(1));
        }
        let of_kind = |words| _mm512_permutexvar_epi32(kind, load(words));
        let (frequency, reciprocal) = (of_kind(&kinds.frequency), of_kind(&kinds.reciprocal));
        let offset = _mm512_sub_epi32(slot, of_kind(&kinds.first_slot));
        // The products shifted right by 31: first the even lanes, then the odd ones in their own places.
        let even = _mm512_srli_epi64::<31>(_mm512_mul_epu32(offset, reciprocal));
        let odd = _mm512_slli_epi64::<1>(_mm512_mul_epu32(
            _mm512_srli_epi64::<32>(offset),
            _mm512_srli_epi64::<32>(reciprocal),
        ));
        let place = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
        let rest = _mm512_sub_epi32(offset, _mm512_mullo_epi32(place, frequency));
        let scaled = _mm512_mullo_epi32(frequency, _mm512_srli_epi32::<14>(state));
        let symbol = _mm512_add_epi32(place, of_kind(&FIRST_SYMBOL));
        (_mm512_add_epi32(scaled, rest), symbol)
    }
}
