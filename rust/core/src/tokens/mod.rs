//! Token ids as callers hold them: four integer types, and rows of equal or different lengths.

mod ids;
mod rows;
mod sample_ids;

pub use ids::{Id, Token};
pub use rows::Rows;
pub use sample_ids::SampleIds;
