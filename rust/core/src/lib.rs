//! Kernels of `metro_fast`: no Python, no CUDA, no global state.
//!
//! Every operation takes a whole batch and its thread count as arguments, and writes into slices
//! that the caller owns. Randomness is a pure function of (seed, epoch, sample id, position): see
//! [`rng`].
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod corpus;
pub mod denoise;
pub mod error;
pub mod expert;
pub mod interrupt;
mod map;
pub mod memory;
pub mod order;
mod regular;
pub mod replace;
pub mod rng;
pub mod shown;
pub mod simd;
mod softmax;
pub mod ternary;
pub mod threads;
pub mod tokens;

pub use error::{Error, Result};
