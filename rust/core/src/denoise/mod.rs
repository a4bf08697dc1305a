//! Denoising: what is hidden from a model that learns to restore it.

mod counts;
mod denoiser;
mod draws;
mod layout;
mod mask;
mod mask_plan;
mod metro_spans;
mod noise;
mod span_lengths;
mod span_options;
mod span_plan;
mod spans;
mod subset;
mod words_of_row;

pub use counts::{Billionths, Compat, SpanCounts};
pub use denoiser::{Denoiser, Inputs, Noise, Targets};
pub use mask::{MaskOutput, mask_tokens};
pub use mask_plan::{Count, Masking};
pub use span_lengths::SpanLengths;
pub use span_options::{Sentinels, SpanCorruption};
pub use span_plan::{Draw, SpanPlan, plan_spans};
pub use spans::{SpanOutput, corrupt_spans};

/// What fills the labels of short rows: the index that cross-entropy ignores.
const IGNORED: i64 = -100;
