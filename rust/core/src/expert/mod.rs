//! The expert file (docs/expert-format.md): hostile bytes in, checked parts out, and back.

mod atomic;
pub mod container;
mod file;
mod manifest;
mod unique_keys;

pub use atomic::write_file;
pub use file::{Parts, decode, encode};
pub use manifest::{AlphaRule, Base, Dense, Dtype, Group, Initial, Kind, Manifest, Scope, Tensor};

/// CRC32C of bytes, as dense tensors and given initial values carry it; `before` is that of the bytes
/// that come before, or 0.
pub fn checksum(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}
