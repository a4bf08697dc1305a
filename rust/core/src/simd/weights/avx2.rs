//! AVX2: eight logits at a time.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_blendv_ps,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cvttps_epi32, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_min_ps, _mm256_mul_epu32, _mm256_mul_ps,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_slli_epi32, _mm256_slli_epi64, _mm256_srli_epi32,
    _mm256_srli_epi64, _mm256_srlv_epi64, _mm256_storeu_si256, _mm256_sub_epi32, _mm256_sub_ps,
};

use super::super::sets::Avx2;
use super::{BLOCK, Weights};
use crate::softmax::{C1, C2, FARTHEST, POINT, TABLE, TOP};

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

    #[inline(always)]
    fn weights(logits: &[f32; BLOCK], max: f32, scale: f32) -> u64 {
        // SAFETY: as above; the table has 32 entries.
        unsafe {
            let table: [__m256i; 4] = std::array::from_fn(|quarter| {
                _mm256_loadu_si256(TABLE[8 * quarter..][..8].as_ptr().cast())
            });
            let (max, scale) = (_mm256_set1_ps(max), _mm256_set1_ps(scale));
            let lower = _mm256_set1_epi64x(u32::MAX.into());
            let mut sums = [_mm256_setzero_si256(); 2];
            for eight in logits.as_chunks::<8>().0 {
                let logits = _mm256_loadu_ps(eight.as_ptr());
                let product = _mm256_mul_ps(_mm256_sub_ps(max, logits), scale);
                let distance =
                    _mm256_cvttps_epi32(_mm256_min_ps(product, _mm256_set1_ps(FARTHEST)));
                let up = _mm256_set1_epi32((1 << POINT) - 1);
                let shift = _mm256_srli_epi32::<{ POINT as i32 }>(_mm256_add_epi32(distance, up));
                // The fraction, and above it bits that nothing below looks at.
                let fraction = _mm256_sub_epi32(_mm256_setzero_si256(), distance);
                let entry = look_up(&table, fraction);
                let r = _mm256_and_si256(fraction, _mm256_set1_epi32((1 << (POINT - 5)) - 1));
                let even = weights_of(r, entry, _mm256_and_si256(shift, lower));
                let odd = weights_of(
                    _mm256_srli_epi64::<32>(r),
                    _mm256_srli_epi64::<32>(entry),
                    _mm256_srli_epi64::<32>(shift),
                );
                sums = [_mm256_add_epi64(sums[0], even), _mm256_add_epi64(sums[1], odd)];
            }
            let mut lanes = [0u64; 4];
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), _mm256_add_epi64(sums[0], sums[1]));
            lanes.iter().sum()
        }
    }
}

/// The entries of the table whose indices are the five bits of each fraction below the point. The
/// table is four registers, of which permutations and blends choose: a gather is slow on the many
/// processors whose microcode guards against Downfall.
#[inline(always)]
unsafe fn look_up(table: &[__m256i; 4], fraction: __m256i) -> __m256i {
    // SAFETY: the caller runs where AVX2 was detected.
    unsafe {
        let index = _mm256_srli_epi32::<{ POINT as i32 - 5 }>(fraction);
        let [a, b, c, d] =
            table.map(|eight| _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(eight, index)));
        // A blend looks at the sign bit, to which the fourth and fifth bit of the index are moved.
        let fourth = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
        let fifth = _mm256_castsi256_ps(_mm256_slli_epi32::<27>(index));
        let (low, high) = (_mm256_blendv_ps(a, b, fourth), _mm256_blendv_ps(c, d, fourth));
        _mm256_castps_si256(_mm256_blendv_ps(low, high, fifth))
    }
}

/// [`crate::softmax::weight`] from `r` on, in four lanes of 64 bits. Of `r` and `entry` only the
/// lower half of each lane counts.
#[inline(always)]
unsafe fn weights_of(r: __m256i, entry: __m256i, shift: __m256i) -> __m256i {
    // SAFETY: the caller runs where AVX2 was detected.
    unsafe {
        let curve = _mm256_srli_epi64::<25>(_mm256_mul_epu32(_mm256_set1_epi64x(C2 as i64), r));
        let slope = _mm256_add_epi64(_mm256_set1_epi64x(C1 as i64), curve);
        let growth = _mm256_srli_epi64::<24>(_mm256_mul_epu32(slope, r));
        let grown = _mm256_srli_epi64::<32>(_mm256_mul_epu32(entry, growth));
        let whole = _mm256_and_si256(entry, _mm256_set1_epi64x(u32::MAX.into()));
        let mantissa = _mm256_add_epi64(whole, grown);
        _mm256_srlv_epi64(_mm256_slli_epi64::<{ TOP as i32 - 31 }>(mantissa), shift)
    }
}
