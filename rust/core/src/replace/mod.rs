//! Replaced tokens: samples them from logits, and labels which tokens differ from the originals.

pub mod labels;
pub mod logits;
mod row;
pub mod sample;
pub mod sampling;
pub mod sweep;

pub use labels::{ReplacedOutput, replaced_token_labels};
pub use logits::Logit;
pub use sample::{Draws, sample_replacements};
pub use sampling::Sampling;
pub use sweep::{RowState, SweepDraw, Tile, sweep_tile};
