//! Replaced tokens: sampling them from logits, and telling them from the originals.

mod exp2;
pub mod labels;
pub mod logits;
pub mod sample;

pub use labels::{ReplacedOutput, replaced_token_labels};
pub use logits::Logit;
pub use sample::{Draws, sample_replacements};
