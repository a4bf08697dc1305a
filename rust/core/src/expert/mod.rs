//! The expert file (docs/expert-format.md): hostile bytes to checked parts, and back.

pub mod container;
mod deflated;
mod dtype;
mod file;
mod json;
mod manifest;
pub mod metadata;
mod shapes;
mod unique_keys;

pub use dtype::Dtype;
pub use file::{Parts, decode, encode};
pub use manifest::{AlphaRule, Base, Dense, Group, Initial, Kind, Manifest, Scope, Tensor};

/// The CRC32C of bytes, which protects dense tensors and given initial values. `before` is the
/// checksum of the bytes that precede them, or 0.
pub fn checksum(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}
