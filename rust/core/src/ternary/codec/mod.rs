//! The packed block: a sequence of trits as bytes (docs/expert-format.md, section 4).

pub mod bitmask;
mod block;
pub mod t4_rans;
pub mod tables;

pub use block::{Block, Coding, default_steps, pack};
