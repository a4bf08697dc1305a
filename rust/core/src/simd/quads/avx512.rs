//! AVX-512 with VBMI and VBMI2: sixteen states at a time, 256 values by masked moves.

use std::arch::x86_64::{
    __m256i, __m512i, __mmask16, __mmask32, __mmask64, _mm_loadu_si128, _mm_setzero_si128,
    _mm256_loadu_si256, _mm256_mask_compressstoreu_epi16, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_and_si512, _mm512_castsi128_si512, _mm512_castsi256_si512, _mm512_castsi512_si256,
    _mm512_cmpge_epu32_mask, _mm512_cmplt_epu32_mask, _mm512_cvtepi16_epi8, _mm512_cvtepi32_epi8,
    _mm512_cvtepi32_epi16, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_cvtepu32_epi64,
    _mm512_cvtepu32_pd, _mm512_cvttpd_epu32, _mm512_extracti64x4_epi64, _mm512_inserti32x4,
    _mm512_inserti64x4, _mm512_loadu_pd, _mm512_loadu_si512, _mm512_mask_add_epi32,
    _mm512_mask_mov_epi8, _mm512_mask_mov_epi16, _mm512_mask_mov_epi32, _mm512_mask_or_epi32,
    _mm512_mask_srli_epi32, _mm512_maskz_expand_epi32, _mm512_maskz_mov_epi8, _mm512_mul_epu32,
    _mm512_mul_pd, _mm512_mullo_epi32, _mm512_or_si512, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi32, _mm512_permutexvar_pd, _mm512_set1_epi8, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_slli_epi64,
    _mm512_srli_epi16, _mm512_srli_epi32, _mm512_srli_epi64, _mm512_storeu_si512,
    _mm512_stream_si512, _mm512_sub_epi32, _pdep_u64, _pext_u32,
};

use super::super::avx512::Avx512;
use super::{Encoder, Quads, ROW, Value, WORD_SLACK};
use crate::ternary::codec::tables::{Class, KEYS, KIND_FIRST, KINDS, SCALE_BITS, SYMBOLS};

/// By kind: frequency, first slot, reciprocal.
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

/// Values of -1, 0 and +1.
#[derive(Clone, Copy)]
pub(crate) struct Three<T>([T; 3]);

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
        // SAFETY: AVX-512 was found before a job runs with these lanes; 64 states are four vectors,
        // 64 keys one, a table of 128 bytes two. A vector takes at most 16 words, so that `taken` is
        // at most 48 where sixteen of the 64 words are loaded.
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
        // SAFETY: AVX-512 was found before a job runs with these lanes; 64 states are four vectors,
        // 64 symbols four quarters of one. A vector stores at most 16 words, at most 48 lie before.
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
        // SAFETY: BMI2 was found before a job runs with these lanes.
        unsafe {
            let negative = _pdep_u64(signs.into(), mask.into());
            _pdep_u64(mask.into(), 0x0f0f_0f0f_0f0f_0f0f)
                | _pdep_u64(negative, 0xf0f0_f0f0_f0f0_f0f0)
        }
    }

    #[inline(always)]
    fn extract(negative: u32, mask: u32) -> u32 {
        // SAFETY: BMI2 was found before a job runs with these lanes.
        unsafe { _pext_u32(negative, mask) }
    }

    #[inline(always)]
    fn bytes_of_bits(words: &[u64], bytes: &mut [u8; 64]) {
        // SAFETY: AVX-512 was found before a job runs with these lanes, and there are 64 bytes.
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
        let (rows, rest) = keys.as_chunks::<64>();
        let (out, last) = out.split_at_mut(256 * rows.len());
        let past = past && out.as_ptr().addr().is_multiple_of(64);
        for (keys, out) in rows.iter().zip(out.as_chunks_mut::<256>().0) {
            spread_row(table, keys, out, past);
        }
        if !rest.is_empty() {
            let (mut keys, mut values) = ([0; 64], [table.0[1]; 256]);
            keys[..rest.len()].copy_from_slice(rest);
            spread_row(table, &keys, &mut values, false);
            last.copy_from_slice(&values[..last.len()]);
        }
    }
}

/// One step of sixteen states, before they are filled up: the new states and the symbols.
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
        // Products shifted right by 31: of the even lanes, and of the odd ones in their own place.
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

/// 256 values: the keys' masks and signs as bits, and two masked moves a vector.
#[inline(always)]
fn spread_row<T: Value>(table: &Three<T>, keys: &[u8; 64], out: &mut [T; 256], past: bool) {
    // SAFETY: AVX-512 was found before a job runs with these lanes. A value has 1, 2 or 4 bytes, as
    // the match says, so that the 256 of them are 4, 8 or 16 vectors; `past` is only true where they
    // are aligned to 64 bytes.
    unsafe {
        let keys = _mm512_loadu_si512(keys.as_ptr().cast());
        let (low, high) = (_mm512_set1_epi16(0x0f), _mm512_set1_epi16(0xf0));
        // Of two keys in 16 bits: the lower nibbles together, and the upper ones.
        let mask = _mm512_or_si512(
            _mm512_and_si512(keys, low),
            _mm512_and_si512(_mm512_srli_epi16::<4>(keys), high),
        );
        let negative = _mm512_or_si512(
            _mm512_and_si512(_mm512_srli_epi16::<4>(keys), low),
            _mm512_and_si512(_mm512_srli_epi16::<8>(keys), high),
        );
        let (mut masks, mut negatives) = ([0u64; 4], [0u64; 4]);
        _mm256_storeu_si256(masks.as_mut_ptr().cast(), _mm512_cvtepi16_epi8(mask));
        _mm256_storeu_si256(negatives.as_mut_ptr().cast(), _mm512_cvtepi16_epi8(negative));
        let [minus, zero, plus] = table.0;
        let to = out.as_mut_ptr().cast::<u8>();
        let put = |vector: usize, values| {
            let to = to.add(64 * vector).cast();
            if past {
                _mm512_stream_si512(to, values);
            } else {
                _mm512_storeu_si512(to.cast(), values);
            }
        };
        match size_of::<T>() {
            1 => {
                let [minus, zero, plus] =
                    [minus, zero, plus].map(|v| _mm512_set1_epi8(bytemuck::cast(v)));
                for i in 0..4 {
                    let values = _mm512_mask_mov_epi8(zero, masks[i] as __mmask64, plus);
                    put(i, _mm512_mask_mov_epi8(values, negatives[i] as __mmask64, minus));
                }
            }
            2 => {
                let [minus, zero, plus] =
                    [minus, zero, plus].map(|v| _mm512_set1_epi16(bytemuck::cast(v)));
                for i in 0..8 {
                    let bits = |words: &[u64; 4]| (words[i / 2] >> (32 * (i % 2))) as __mmask32;
                    let values = _mm512_mask_mov_epi16(zero, bits(&masks), plus);
                    put(i, _mm512_mask_mov_epi16(values, bits(&negatives), minus));
                }
            }
            4 => {
                let [minus, zero, plus] =
                    [minus, zero, plus].map(|v| _mm512_set1_epi32(bytemuck::cast(v)));
                for i in 0..16 {
                    let bits = |words: &[u64; 4]| (words[i / 4] >> (16 * (i % 4))) as __mmask16;
                    let values = _mm512_mask_mov_epi32(zero, bits(&masks), plus);
                    put(i, _mm512_mask_mov_epi32(values, bits(&negatives), minus));
                }
            }
            bytes => unreachable!("a value of {bytes} bytes"),
        }
    }
}
