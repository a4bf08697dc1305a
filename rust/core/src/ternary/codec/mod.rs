//! The packed block: a sequence of trits as bytes (docs/expert-format.md, section 4).

mod bitmask;
mod block;
mod decode;
mod encode;
mod frequencies;
mod keys;
mod layout;
mod packer;
mod sink;
mod t4_rans;
#[cfg(test)]
mod tests;

pub use block::Block;
pub use encode::{Coding, default_steps, pack};
pub(crate) use keys::zero_between;
pub use packer::Packer;
pub(crate) use sink::{Sink, Table, past_the_caches};
