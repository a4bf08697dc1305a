//! Replaced tokens: samples them from logits, and labels which tokens differ from the originals.

mod exp2;
pub mod labels;
pub mod logits;
pub mod sample;

pub use labels::{ReplacedOutput, replaced_token_labels};
pub use logits::Logit;
pub use sample::{Draws, sample_replacements};
