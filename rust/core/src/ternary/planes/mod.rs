//! Trits as two bits each in two planes, and operations on several experts at once.
//!
//! With k experts, each position holds one of 3^k combinations of trits. A merge, whatever its
//! rule, is a table with a value for each combination; a comparison counts how often each
//! combination occurs.

mod combinations;
mod decode;
mod dot_products;
mod pieces;
#[cfg(test)]
mod tests;

pub use combinations::{count, look_up};
pub use decode::{Planes, planes};
pub use dot_products::dot_products;
pub use pieces::{MAX_EXPERTS, Piece};
