//! The number formats of logits, and their exact conversion to f32.

use half::{bf16, f16};

use crate::simd::weights::BLOCK;

/// Number of lanes of the search for the greatest logit: a few registers of AVX-512, since each lane
/// waits for its last maximum.
const LANES: usize = 64;

/// A number format of logits. Every value is also an f32, so the conversion does not round.
pub trait Logit: Copy + Send + Sync + 'static {
    /// The logit of a token that is never drawn.
    const NEVER: Self;

    /// Returns the same value as f32.
    fn to_f32(self) -> f32;

    /// Returns the greatest of the logits, -Inf of none, and `None` if one of them is NaN or +Inf.
    fn greatest(logits: &[Self]) -> Option<f32>;

    /// Returns at most [`BLOCK`] logits as f32, followed by -Inf, in `buffer` if they are not so in
    /// memory already.
    #[inline(always)]
    fn block<'a>(logits: &'a [Self], buffer: &'a mut [f32; BLOCK]) -> &'a [f32; BLOCK] {
        if let Some(whole) = logits.first_chunk::<BLOCK>() {
            for (to, logit) in buffer.iter_mut().zip(whole) {
                *to = logit.to_f32();
            }
        } else {
            buffer.fill(f32::NEG_INFINITY);
            for (to, logit) in buffer.iter_mut().zip(logits) {
                *to = logit.to_f32();
            }
        }
        buffer
    }
}

impl Logit for f32 {
    const NEVER: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn greatest(logits: &[f32]) -> Option<f32> {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let mut bad = [0u32; LANES];
        let mut raise = |lane: usize, logit: f32| {
            bad[lane] |= u32::from(refused(logit));
            lanes[lane] = if logit > lanes[lane] { logit } else { lanes[lane] };
        };
        let (whole, rest) = logits.as_chunks::<LANES>();
        for chunk in whole {
            for (lane, logit) in chunk.iter().enumerate() {
                raise(lane, *logit);
            }
        }
        for (lane, logit) in rest.iter().enumerate() {
            raise(lane, *logit);
        }
        (bad == [0; LANES]).then(|| lanes.into_iter().fold(f32::NEG_INFINITY, f32::max))
    }

    #[inline(always)]
    fn block<'a>(logits: &'a [f32], buffer: &'a mut [f32; BLOCK]) -> &'a [f32; BLOCK] {
        if let Some(whole) = logits.first_chunk() {
            return whole;
        }
        buffer.fill(f32::NEG_INFINITY);
        buffer[..logits.len()].copy_from_slice(logits);
        buffer
    }
}

impl Logit for bf16 {
    const NEVER: Self = bf16::NEG_INFINITY;

    #[inline(always)]
    fn greatest(logits: &[bf16]) -> Option<f32> {
        greatest_bits(logits, bf16::to_bits, bf16::INFINITY.to_bits())
            .map(|bits| Logit::to_f32(bf16::from_bits(bits)))
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Logit for f16 {
    const NEVER: Self = f16::NEG_INFINITY;

    #[inline(always)]
    fn greatest(logits: &[f16]) -> Option<f32> {
        greatest_bits(logits, f16::to_bits, f16::INFINITY.to_bits())
            .map(|bits| Logit::to_f32(f16::from_bits(bits)))
    }

    /// Has no branch, so that the compiler can vectorize it, and no subnormal f32 on the way, which
    /// a thread may take for 0 (`torch.set_flush_denormal`): a normal number gets
    /// the bias of f32, and a subnormal one is an integer times 2^-24.
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let exponent = bits & 0x7C00;
        let bias = if exponent == 0x7C00 { (255 - 31) << 23 } else { (127 - 15) << 23 };
        let normal = ((bits & 0x7FFF) << 13) + bias;
        let subnormal =
            ((bits & 0x03FF) as i32 as f32 * f32::from_bits((127 - 24) << 23)).to_bits();
        let magnitude = if exponent == 0 { subnormal } else { normal };
        f32::from_bits(magnitude | (bits & 0x8000) << 16)
    }
}

/// Whether a logit is not allowed in a softmax.
#[inline(always)]
pub(super) fn refused(logit: f32) -> bool {
    logit.is_nan() || (logit == f32::INFINITY)
}

/// Returns the bits of the greatest of some 16-bit numbers, and `None` if one is NaN or +Inf. As
/// integers they take a third of the time of a conversion to f32: they order as the numbers do if
/// those with a sign are reversed, and NaN is above +Inf, or below -Inf.
#[inline(always)]
fn greatest_bits<T: Copy>(logits: &[T], bits: impl Fn(T) -> u16, infinity: u16) -> Option<u16> {
    let key = |bits: u16| bits as i16 ^ ((bits as i16 >> 15) as u16 >> 1) as i16;
    let (least, most) = (key(infinity | 0x8000), key(infinity));
    let (mut low, mut high) = ([0; LANES], [least; LANES]);
    let mut raise = |lane: usize, logit: T| {
        let key = key(bits(logit));
        low[lane] = if key < low[lane] { key } else { low[lane] };
        high[lane] = if key > high[lane] { key } else { high[lane] };
    };
    let (whole, rest) = logits.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, logit) in chunk.iter().enumerate() {
            raise(lane, *logit);
        }
    }
    for (lane, logit) in rest.iter().enumerate() {
        raise(lane, *logit);
    }
    let low = low.into_iter().fold(0, i16::min);
    let high = high.into_iter().fold(least, i16::max);
    // Reversing twice gives the bits again.
    (low >= least && high < most).then(|| key(high as u16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_pattern_converts_as_the_half_crate_converts_it() {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(same(Logit::to_f32(half), f16::to_f32(half)), "{bits:x}");
            assert!(same(Logit::to_f32(brain), bf16::to_f32(brain)), "{bits:x}");
        }
    }
    /// By comparing values, not bits.
    fn greatest<T: Logit>(logits: &[T]) -> Option<f32> {
        let values = || logits.iter().map(|logit| logit.to_f32());
        values().all(|x| x < f32::INFINITY).then(|| values().fold(f32::NEG_INFINITY, f32::max))
    }

    fn check<T: Logit>(logits: &[T]) {
        for length in [0, 1, 2, 63, 64, 65, 200] {
            for start in (0..logits.len() - length).step_by(97) {
                let part = &logits[start..start + length];
                assert_eq!(T::greatest(part), greatest(part), "{start}, {length}");
            }
        }
    }

    #[test]
    fn the_greatest_is_found_whatever_the_bits() {
        // Runs of finite numbers of either sign, both zeros, infinities and NaN.
        let bits: Vec<u16> = (0..=u16::MAX).map(|i| i.wrapping_mul(0x6255)).collect();
        let finite = |bits: &[u16], infinity: u16| -> Vec<u16> {
            bits.iter()
                .copied()
                .filter(|b| b & infinity != infinity || *b == infinity | 0x8000)
                .collect()
        };
        check::<f16>(&bits.iter().map(|b| f16::from_bits(*b)).collect::<Vec<_>>());
        check::<bf16>(&bits.iter().map(|b| bf16::from_bits(*b)).collect::<Vec<_>>());
        check::<f32>(&bits.iter().map(|b| f32::from_bits(u32::from(*b) << 16)).collect::<Vec<_>>());
        check::<f16>(&finite(&bits, 0x7C00).iter().map(|b| f16::from_bits(*b)).collect::<Vec<_>>());
        check::<bf16>(
            &finite(&bits, 0x7F80).iter().map(|b| bf16::from_bits(*b)).collect::<Vec<_>>(),
        );
        check::<bf16>(&[bf16::from_f32(-3.0); 300]);
    }
}
