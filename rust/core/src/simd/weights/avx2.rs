//! AVX2: eight logits at a time.

use std::arch::x86_64::{
    _mm256_add_epi64, _mm256_cvttps_epi32, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_epi64x,
    _mm256_set1_ps, _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_srlv_epi64,
    _mm256_storeu_si256, _mm256_sub_ps,
};

use super::super::sets::Avx2;
use super::{BLOCK, Weights};
use crate::softmax::{POINT, TOP};

impl Weights for Avx2 {
    #[inline(always)]
    fn envelopes(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64 {
        const POINT_OF_ODD: i32 = 32 + POINT as i32;
        // SAFETY: AVX2 was detected before any job runs with these lanes, and all loads and stores
        // are of whole arrays.
        unsafe {
            let (max, scale) = (_mm256_set1_ps(max), _mm256_set1_ps(scale));
            let top = _mm256_set1_epi64x(1 << TOP);
            let mut sums = [_mm256_setzero_si256(); 2];
            for eight in logits.as_chunks::<8>().0 {
                let logits = _mm256_loadu_ps(eight.as_ptr());
                // Where the product is 2^31 or more, the result is 2^31, whose shift is 64: there
                // the instruction gives 0, as it does for all shifts from 41 on.
                let distance =
                    _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_sub_ps(max, logits), scale));
                let odd = _mm256_srli_epi64::<POINT_OF_ODD>(distance);
                let even = _mm256_srli_epi64::<POINT_OF_ODD>(_mm256_slli_epi64::<32>(distance));
                sums = [
                    _mm256_add_epi64(sums[0], _mm256_srlv_epi64(top, even)),
                    _mm256_add_epi64(sums[1], _mm256_srlv_epi64(top, odd)),
                ];
            }
            let mut lanes = [0u64; 4];
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), _mm256_add_epi64(sums[0], sums[1]));
            lanes.iter().sum()
        }
    }
}
