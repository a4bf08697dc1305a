//! AVX-512: sixteen logits at a time.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_add_epi64, _mm512_and_si512, _mm512_cvttps_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_min_ps, _mm512_mul_epu32, _mm512_mul_ps,
    _mm512_permutex2var_epi32, _mm512_reduce_add_epi64, _mm512_set1_epi32, _mm512_set1_epi64,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi32, _mm512_srli_epi64,
    _mm512_srlv_epi64, _mm512_sub_epi32, _mm512_sub_ps,
};

use super::super::sets::Avx512;
use super::{BLOCK, Weights};
use crate::softmax::{C1, C2, FARTHEST, POINT, TABLE, TOP};

impl Weights for Avx512 {
    #[inline(always)]
    fn envelopes(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64 {
        const POINT_OF_ODD: u32 = 32 + POINT;
        // SAFETY: AVX-512 was detected before any job runs with these lanes, and all loads are of
        // whole arrays of 16.
        unsafe {
            let (max, scale) = (_mm512_set1_ps(max), _mm512_set1_ps(scale));
            let top = _mm512_set1_epi64(1 << TOP);
            let mut sums = [_mm512_setzero_si512(); 2];
            for sixteen in logits.as_chunks::<16>().0 {
                let logits = _mm512_loadu_ps(sixteen.as_ptr());
                // Where the product is 2^31 or more, the result is 2^31, whose shift is 64: there
                // the instruction gives 0, as it does for all shifts from 41 on.
                let distance =
                    _mm512_cvttps_epi32(_mm512_mul_ps(_mm512_sub_ps(max, logits), scale));
                let odd = _mm512_srli_epi64::<POINT_OF_ODD>(distance);
                let even = _mm512_srli_epi64::<POINT_OF_ODD>(_mm512_slli_epi64::<32>(distance));
                sums = [
                    _mm512_add_epi64(sums[0], _mm512_srlv_epi64(top, even)),
                    _mm512_add_epi64(sums[1], _mm512_srlv_epi64(top, odd)),
                ];
            }
            _mm512_reduce_add_epi64(_mm512_add_epi64(sums[0], sums[1])) as u64
        }
    }

    #[inline(always)]
    fn weights(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64 {
        // SAFETY: as above; the table has 32 entries.
        unsafe {
            let low = _mm512_loadu_si512(TABLE.as_ptr().cast());
            let high = _mm512_loadu_si512(TABLE[16..].as_ptr().cast());
            let (max, scale) = (_mm512_set1_ps(max), _mm512_set1_ps(scale));
            let lower = _mm512_set1_epi64(u32::MAX.into());
            let mut sums = [_mm512_setzero_si512(); 2];
            for sixteen in logits.as_chunks::<16>().0 {
                let logits = _mm512_loadu_ps(sixteen.as_ptr());
                let product = _mm512_mul_ps(_mm512_sub_ps(max, logits), scale);
                let distance =
                    _mm512_cvttps_epi32(_mm512_min_ps(product, _mm512_set1_ps(FARTHEST)));
                let up = _mm512_set1_epi32((1 << POINT) - 1);
                let shift = _mm512_srli_epi32::<POINT>(_mm512_add_epi32(distance, up));
                // The fraction, and above it bits that nothing below looks at.
                let fraction = _mm512_sub_epi32(_mm512_setzero_si512(), distance);
                let index = _mm512_srli_epi32::<{ POINT - 5 }>(fraction);
                // The table is two registers, which one permutation reads.
                let entry = _mm512_permutex2var_epi32(low, index, high);
                let r = _mm512_and_si512(fraction, _mm512_set1_epi32((1 << (POINT - 5)) - 1));
                let even = weights_of(r, entry, _mm512_and_si512(shift, lower));
                let odd = weights_of(
                    _mm512_srli_epi64::<32>(r),
                    _mm512_srli_epi64::<32>(entry),
                    _mm512_srli_epi64::<32>(shift),
                );
                sums = [_mm512_add_epi64(sums[0], even), _mm512_add_epi64(sums[1], odd)];
            }
            _mm512_reduce_add_epi64(_mm512_add_epi64(sums[0], sums[1])) as u64
        }
    }
}

/// [`crate::softmax::weight`] from `r` on, in eight lanes of 64 bits. Of `r` and `entry` only the
/// lower half of each lane counts.
#[inline(always)]
unsafe fn weights_of(r: __m512i, entry: __m512i, shift: __m512i) -> __m512i {
    // SAFETY: the caller runs where AVX-512 was detected.
    unsafe {
        let curve = _mm512_srli_epi64::<25>(_mm512_mul_epu32(_mm512_set1_epi64(C2 as i64), r));
        let slope = _mm512_add_epi64(_mm512_set1_epi64(C1 as i64), curve);
        let growth = _mm512_srli_epi64::<24>(_mm512_mul_epu32(slope, r));
        let grown = _mm512_srli_epi64::<32>(_mm512_mul_epu32(entry, growth));
        let whole = _mm512_and_si512(entry, _mm512_set1_epi64(u32::MAX.into()));
        let mantissa = _mm512_add_epi64(whole, grown);
        _mm512_srlv_epi64(_mm512_slli_epi64::<{ TOP - 31 }>(mantissa), shift)
    }
}
