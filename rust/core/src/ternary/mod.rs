//! Ternary experts: from floats to trits and a scale, and from trits to bytes.
//!
//! [`ternarize`] is ComPEFT's compression (arXiv 2311.13171): it keeps the entries of largest
//! magnitude and replaces them with their sign times one scale. [`codec`] packs the trits into
//! nearly as few bytes as their entropy.

mod chunks;
pub mod codec;
mod expand;
mod passes;
mod planes;
mod quantize;
mod rule;
mod select;
mod stages;

pub use expand::{Segment, expand};
pub use passes::Agreement;
pub use planes::{MAX_EXPERTS, Piece, Planes, count, dot_products, look_up, planes};
pub use quantize::ternarize;
pub use rule::{Alpha, Part, Rule, Ternary, kept_entries};
pub use stages::Quantizer;
