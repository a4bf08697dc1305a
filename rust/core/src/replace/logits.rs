//! The number formats of logits, and their exact conversion to f32.

use half::{bf16, f16};

/// A number format of logits. Every value is also an f32, so the conversion does not round.
pub trait Logit: Copy + Send + Sync + 'static {
    /// Returns the same value as f32.
    fn to_f32(self) -> f32;
}

impl Logit for f32 {
    #[inline]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Logit for bf16 {
    #[inline]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Logit for f16 {
    /// Has no branch, so that the compiler can vectorize it: the fields are moved to their places
    /// in f32, and multiplying by 2^112 corrects the bias of the exponent, also for subnormals.
    #[inline]
    fn to_f32(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let magnitude = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits((112 + 127) << 23);
        let not_finite = if bits & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
        f32::from_bits(magnitude.to_bits() | not_finite | (bits & 0x8000) << 16)
    }
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
}
