//! The fixed numbers of a packed block (docs/expert-format.md, section 4).

pub(super) const MAGIC: [u8; 4] = *b"MFT4";
pub(super) const VERSION: u8 = 1;
/// Bytes of the header.
pub(super) const HEADER: usize = 32;
/// Bytes of a row of the index.
pub(super) const ROW: usize = 16;
/// Zero bytes after the last stream.
pub(super) const GUARD: usize = 256;
/// The most trits that a block may hold.
pub(super) const MAX_COUNT: u64 = 1 << 40;

/// Coding of a T4-rANS stream.
pub(super) const T4: u8 = 0;
/// Coding of a bitmask stream.
pub(super) const BITMASK: u8 = 1;
/// Coding of a stream that has no bytes, because all of its trits are zero.
pub(super) const ZERO: u8 = 2;
