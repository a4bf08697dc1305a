//! AVX-512: sixteen logits at a time.

use std::arch::x86_64::{
    _mm512_add_epi64, _mm512_cvttps_epi32, _mm512_loadu_ps, _mm512_mul_ps, _mm512_reduce_add_epi64,
    _mm512_set1_epi64, _mm512_set1_ps, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_srlv_epi64, _mm512_sub_ps,
};

use super::super::sets::Avx512;
use super::{BLOCK, Weights};
use crate::softmax::{POINT, TOP};

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
}
