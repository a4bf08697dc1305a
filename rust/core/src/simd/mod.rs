//! Instruction sets: a kernel is written once, compiled for each set, and the set is chosen at run
//! time.
//!
//! A kernel is a [`Job`]. The compiler vectorizes its plain loops with the features of each level.
//! Only operations that loops cannot express are written by hand, once per level: see [`Lanes`],
//! [`quads::Quads`] and [`weights::Weights`]. Every level gives the same bits.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
mod lanes;
mod level;
pub(crate) mod quads;
mod scalar;
mod sets;
#[cfg(test)]
mod tests;
pub(crate) mod weights;

pub(crate) use lanes::{Job, Lanes, SLACK};
pub use level::Level;
