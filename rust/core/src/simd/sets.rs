//! The types that stand for instruction sets: [`super::Lanes`], [`super::quads::Quads`] and
//! [`super::weights::Weights`] are implemented for each.

/// The baseline of the target.
pub(crate) struct Scalar;

/// AVX2 with BMI1 and BMI2.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx2;

/// AVX-512 F, BW, DQ, VL, VBMI and VBMI2.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Avx512;
