//! The packed block: a sequence of trits as bytes (docs/expert-format.md, section 4).

mod bitmask;
mod block;
mod frequencies;
mod keys;
mod packer;
mod sink;
mod t4_rans;

pub use block::{Block, Coding, default_steps, pack};
pub(crate) use keys::zero_between;
pub use packer::Packer;
pub(crate) use sink::{Sink, Table, past_the_caches};
