//! Denoising: what is hidden from a model that learns to restore it.

mod choose;
mod mask;
mod mask_plan;
mod span_plan;
mod spans;

pub use mask::{MaskOutput, mask_tokens};
pub use mask_plan::Masking;
pub use span_plan::{SpanCorruption, SpanCounts, span_widths};
pub use spans::{SpanOutput, corrupt_spans};

/// What fills the labels of short rows: the index that cross-entropy ignores.
const IGNORED: i64 = -100;
