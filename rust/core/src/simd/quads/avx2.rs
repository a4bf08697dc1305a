//! AVX2: eight states at a time. Values come from the table of keys, which is as fast as the
//! stores.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi64_si128, _mm_loadu_si128, _mm256_add_epi32, _mm256_adds_epu8,
    _mm256_and_si256, _mm256_blend_epi32, _mm256_blendv_epi8, _mm256_broadcastsi128_si256,
    _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_cmpgt_epi32, _mm256_cvtepu8_epi32,
    _mm256_cvtepu16_epi32, _mm256_loadu_si256, _mm256_movemask_ps, _mm256_mul_epu32,
    _mm256_mullo_epi32, _mm256_or_si256, _mm256_packus_epi16, _mm256_packus_epi32,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_slli_epi64,
    _mm256_srli_epi32, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_sub_epi8, _mm256_sub_epi32,
    _pdep_u64, _pext_u32,
};

use super::super::sets::Avx2;
use super::symbols::{Class, KEYS, KIND_FIRST, KINDS, SCALE_BITS, SYMBOLS};
use super::{ByKey, Encoder, Quads, ROW, Value, WORD_SLACK, scalar, spread_by_key, values_by_key};

/// Frequency, first slot and reciprocal of each kind, and the last slots of kinds 0 to 3.
pub(crate) struct Kinds {
    frequency: [u32; 8],
    first_slot: [u32; 8],
    reciprocal: [u32; 8],
    last_slot: [u32; 4],
}

const FIRST_SYMBOL: [u32; 8] = eight(&KIND_FIRST);

const fn eight(kinds: &[u32; KINDS]) -> [u32; 8] {
    [kinds[0], kinds[1], kinds[2], kinds[3], kinds[4], 0, 0, 0]
}

/// The keys of symbols 16 i to 16 i + 15.
const KEY_TABLES: [[u8; 16]; 6] = {
    let mut tables = [[0; 16]; 6];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        tables[symbol / 16][symbol % 16] = KEYS[symbol];
        symbol += 1;
    }
    tables
};

/// For each mask of the states that run low, which of the next words each state takes.
const RANKS: [[u8; 8]; 256] = {
    let mut ranks = [[0; 8]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut rank) = (0, 0);
        while lane < 8 {
            ranks[mask][lane] = rank;
            rank += (mask >> lane & 1) as u8;
            lane += 1;
        }
        mask += 1;
    }
    ranks
};

impl Quads for Avx2 {
    type Decoder = Kinds;

    fn decoder(class: &Class) -> Kinds {
        let [first @ .., _] = class.first_slot;
        Kinds {
            frequency: eight(&class.frequency),
            first_slot: eight(&first),
            reciprocal: eight(&class.reciprocal),
            last_slot: [1, 2, 3, 4].map(|kind| class.first_slot[kind] - 1),
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
        let halves = states.as_chunks_mut::<32>().0.iter_mut().zip(keys.as_chunks_mut::<32>().0);
        for (states, keys) in halves {
            // SAFETY: AVX2 was detected before any job runs with these lanes; 32 states fill four
            // vectors and 32 keys one. A vector takes at most 8 words, so `taken` is at most 56
            // when eight of the 64 words are loaded.
            unsafe {
                let mut symbols = [_mm256_setzero_si256(); 4];
                for (eight, symbols) in states.as_chunks_mut::<8>().0.iter_mut().zip(&mut symbols) {
                    let state = _mm256_loadu_si256(eight.as_ptr().cast());
                    let (moved, symbol) = step(kinds, state);
                    *symbols = symbol;
                    let low =
                        _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(moved), _mm256_setzero_si256());
                    let mask = _mm256_movemask_ps(_mm256_castsi256_ps(low)) as usize;
                    let next =
                        _mm256_cvtepu16_epi32(_mm_loadu_si128(words.as_ptr().add(taken).cast()));
                    let ranks =
                        _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(RANKS[mask])));
                    let filled = _mm256_or_si256(
                        _mm256_slli_epi32::<16>(moved),
                        _mm256_permutevar8x32_epi32(next, ranks),
                    );
                    let state = _mm256_blendv_epi8(moved, filled, low);
                    _mm256_storeu_si256(eight.as_mut_ptr().cast(), state);
                    taken += mask.count_ones() as usize;
                }
                let bytes = _mm256_permutevar8x32_epi32(
                    _mm256_packus_epi16(
                        _mm256_packus_epi32(symbols[0], symbols[1]),
                        _mm256_packus_epi32(symbols[2], symbols[3]),
                    ),
                    _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7),
                );
                _mm256_storeu_si256(keys.as_mut_ptr().cast(), keys_of(bytes));
            }
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
        scalar::encode_row(encoder, states, symbols, words)
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
        for (i, eight) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut all = 0;
            for (shift, word) in words.iter().enumerate() {
                let bits = u64::from((word >> (8 * i)) as u8);
                // SAFETY: BMI2 was detected before any job runs with these lanes.
                all |= unsafe { _pdep_u64(bits, 0x0101_0101_0101_0101) } << shift;
            }
            *eight = all.to_le_bytes();
        }
    }

    type Table<T: Value> = ByKey<T>;

    fn table<T: Value>(values: [T; 3]) -> ByKey<T> {
        values_by_key(values)
    }

    #[inline(always)]
    fn spread<T: Value>(table: &ByKey<T>, keys: &[u8], out: &mut [T], _past: bool) {
        spread_by_key(table, keys, out);
    }

    #[inline(always)]
    fn fence() {} // There are no streaming stores.
}

/// Advances eight states by one symbol, without refilling them: returns the new states and the
/// symbols.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn step(kinds: &Kinds, state: __m256i) -> (__m256i, __m256i) {
    // SAFETY: the caller has AVX2; arrays of eight words are one vector.
    unsafe {
        let load = |words: &[u32; 8]| _mm256_loadu_si256(words.as_ptr().cast());
        let slot = _mm256_and_si256(state, _mm256_set1_epi32((1 << SCALE_BITS) - 1));
        let mut kind = _mm256_setzero_si256();
        for last in kinds.last_slot {
            // A comparison that holds is -1.
            let above = _mm256_cmpgt_epi32(slot, _mm256_set1_epi32(last as i32));
            kind = _mm256_sub_epi32(kind, above);
        }
        let of_kind = |words| _mm256_permutevar8x32_epi32(load(words), kind);
        let (frequency, reciprocal) = (of_kind(&kinds.frequency), of_kind(&kinds.reciprocal));
        let offset = _mm256_sub_epi32(slot, of_kind(&kinds.first_slot));
        // The products shifted right by 31: first the even lanes, then the odd ones in their own
        // places.
        let even = _mm256_srli_epi64::<31>(_mm256_mul_epu32(offset, reciprocal));
        let odd = _mm256_slli_epi64::<1>(_mm256_mul_epu32(
            _mm256_srli_epi64::<32>(offset),
            _mm256_srli_epi64::<32>(reciprocal),
        ));
        let place = _mm256_blend_epi32::<0b1010_1010>(even, odd);
        let rest = _mm256_sub_epi32(offset, _mm256_mullo_epi32(place, frequency));
        let scaled = _mm256_mullo_epi32(frequency, _mm256_srli_epi32::<14>(state));
        let symbol = _mm256_add_epi32(place, of_kind(&FIRST_SYMBOL));
        (_mm256_add_epi32(scaled, rest), symbol)
    }
}

/// The keys of 32 symbols. Each of six tables of 16 keys gives the keys of its own symbols, and 0
/// for others.
///
/// # Safety
/// Needs AVX2.
#[inline(always)]
unsafe fn keys_of(symbols: __m256i) -> __m256i {
    // SAFETY: the caller has AVX2; a table has 16 bytes.
    unsafe {
        let mut keys = _mm256_setzero_si256();
        for (i, table) in KEY_TABLES.iter().enumerate() {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            let place = _mm256_sub_epi8(symbols, _mm256_set1_epi8(16 * i as i8));
            // Adding 112 with saturation keeps the low nibble of a place below 16 and sets the top
            // bit from 16 on, for which the shuffle gives 0.
            let place = _mm256_adds_epu8(place, _mm256_set1_epi8(112));
            keys = _mm256_or_si256(keys, _mm256_shuffle_epi8(table, place));
        }
        keys
    }
}
