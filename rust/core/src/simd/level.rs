//! The instruction sets that a kernel may be run with.

use super::lanes::Job;
use super::sets::Scalar;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::{Error, Result};

/// An instruction set that a kernel may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The baseline of the target: SSE2 on x86-64.
    Scalar,
    /// AVX2 with BMI1 and BMI2: Intel since 2013, AMD since 2015.
    Avx2,
    /// AVX-512 F, BW, DQ, VL, VBMI and VBMI2: Intel since 2019, AMD since 2022.
    Avx512,
}

impl Level {
    /// The best level that this machine supports.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("lzcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vbmi")
                && is_x86_feature_detected!("avx512vbmi2");
            if avx2 && avx512 {
                return Self::Avx512;
            }
            if avx2 {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// Parses the name of a level, spelled as in `METRO_FAST_SIMD`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the name is unknown, or the machine does not support the level.
    pub fn named(name: &str) -> Result<Self> {
        let level = match name {
            "scalar" => Self::Scalar,
            "avx2" => Self::Avx2,
            "avx512" => Self::Avx512,
            _ => return Err(Error::argument("METRO_FAST_SIMD", name, "scalar, avx2 or avx512")),
        };
        if level > Self::best() {
            return Err(Error::argument(
                "METRO_FAST_SIMD",
                name,
                format!(
                    "at most {}, the best level that this machine supports",
                    Self::best().name()
                ),
            ));
        }
        Ok(level)
    }

    /// The name, spelled as in `METRO_FAST_SIMD`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Runs a job at this level, or at the machine's best level if that is lower.
    #[inline]
    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        match self.min(Self::best()) {
            Self::Scalar => job.run::<Scalar>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::run(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::run(job),
            #[cfg(not(target_arch = "x86_64"))]
            _ => job.run::<Scalar>(),
        }
    }
}
