//! Denoising: hides parts of a text from a model that learns to restore them.

mod counts;
mod denoiser;
mod draws;
mod layout;
mod mask;
mod mask_choice;
mod mask_plan;
mod masking;
mod metro_spans;
mod noise;
mod span_checks;
mod span_lengths;
mod span_options;
mod span_plan;
mod spans;
mod subset;
mod word_bits;
mod words_of_row;

pub use counts::{Billionths, Compat, SpanCounts};
pub use denoiser::{Denoiser, Inputs, Noise, Targets};
pub use mask::{MaskOutput, mask_tokens};
pub use masking::{Count, Masking};
pub use span_lengths::SpanLengths;
pub use span_options::{Sentinels, SpanCorruption};
pub use span_plan::{Draw, SpanPlan, plan_spans};
pub use spans::{SpanOutput, corrupt_spans};

/// The id that fills the labels of short rows, which cross-entropy ignores.
const IGNORED: i64 = -100;
