//! 64 keys to 256 values at a time, by masked moves.

use std::arch::x86_64::{
    __mmask16, __mmask32, __mmask64, _mm256_storeu_si256, _mm512_and_si512, _mm512_cvtepi16_epi8,
    _mm512_loadu_si512, _mm512_mask_mov_epi8, _mm512_mask_mov_epi16, _mm512_mask_mov_epi32,
    _mm512_or_si512, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_srli_epi16,
    _mm512_storeu_si512, _mm512_stream_si512,
};

use super::super::Value;

/// The values of -1, 0 and +1.
#[derive(Clone, Copy)]
pub(crate) struct Three<T>(pub [T; 3]);

/// Writes the four values of each key; with `past`, by streaming stores, which need a
/// `fence` by this thread before anybody reads the values: `Decode::run`, the only caller that passes
/// `past` on, makes it when a stream ends, also by an error or a panic.
#[inline(always)]
pub(super) fn spread<T: Value>(table: &Three<T>, keys: &[u8], out: &mut [T], past: bool) {
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

/// Writes 256 values: gathers the masks and signs of the keys as bits, and makes two masked moves
/// for each vector.
#[inline(always)]
fn spread_row<T: Value>(table: &Three<T>, keys: &[u8; 64], out: &mut [T; 256], past: bool) {
    // SAFETY: AVX-512 was detected before any job runs with these lanes. A value has 1, 2 or 4
    // bytes, as the match requires, so 256 values fill 4, 8 or 16 vectors; `past` is true only if
    // they are aligned to 64 bytes, and the caller of `spread` then calls `fence`.
    unsafe {
        let keys = _mm512_loadu_si512(keys.as_ptr().cast());
        let (low, high) = (_mm512_set1_epi16(0x0f), _mm512_set1_epi16(0xf0));
        // For the two keys in each 16 bits, join the two lower nibbles and the two upper nibbles.
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
