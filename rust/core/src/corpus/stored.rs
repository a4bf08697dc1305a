//! The integer types in which files store ids, and the two types that rows are read into.

use bytemuck::Pod;

use crate::tokens::Token;

/// The width of the ids that are returned to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Two bytes, for ids below 2^16.
    Two,
    /// Four bytes, for ids below 2^32.
    Four,
}

/// The little-endian type in which a file stores ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    I64,
}

impl Stored {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    pub(super) fn width(self) -> Width {
        if self.bytes() <= 2 { Width::Two } else { Width::Four }
    }
}

/// An id type that rows are read into.
pub trait Gathered: Token + Pod {
    /// Narrows an id that was read; the caller must check [`super::Corpus::width`] first.
    fn narrow(id: u32) -> Self;
    /// Combines all ids with OR, which shows whether any of them has the highest bit set.
    fn union(ids: &[Self]) -> u32;
}

impl Gathered for u16 {
    #[inline]
    fn narrow(id: u32) -> Self {
        id as Self
    }

    fn union(ids: &[Self]) -> u32 {
        ids.iter().fold(0, |all, id| all | id).into()
    }
}

impl Gathered for u32 {
    #[inline]
    fn narrow(id: u32) -> Self {
        id
    }

    fn union(ids: &[Self]) -> u32 {
        ids.iter().fold(0, |all, id| all | id)
    }
}

/// Decodes ids. The error is the place and value of the first number that is not an id.
pub(super) fn read_ids<T: Gathered>(
    stored: Stored,
    bytes: &[u8],
    out: &mut [T],
) -> Result<(), (usize, i64)> {
    match stored {
        Stored::U8 => decode(bytes, out, |b| u8::from_le_bytes(b).into()),
        Stored::I8 => decode(bytes, out, |b| i8::from_le_bytes(b).into()),
        Stored::U16 => decode(bytes, out, |b| u16::from_le_bytes(b).into()),
        Stored::I16 => decode(bytes, out, |b| i16::from_le_bytes(b).into()),
        Stored::U32 => decode(bytes, out, |b| u32::from_le_bytes(b).into()),
        Stored::I32 => decode(bytes, out, |b| i32::from_le_bytes(b).into()),
        Stored::I64 => decode(bytes, out, i64::from_le_bytes),
    }
}

#[inline]
fn decode<T: Gathered, const N: usize>(
    bytes: &[u8],
    out: &mut [T],
    read: impl Fn([u8; N]) -> i64,
) -> Result<(), (usize, i64)> {
    // A negative id sets the highest bits of the union, and a larger id sets some bit above the
    // lowest 32.
    let mut union = 0;
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        let id = read(*bytes);
        union |= id as u64;
        *out = T::narrow(id as u32);
    }
    if u32::try_from(union).is_ok() {
        return Ok(());
    }
    let mut ids = bytes.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).enumerate();
    Err(ids
        .find(|(_, id)| u32::try_from(*id).is_err())
        .expect("some id set a bit above the lowest 32"))
}

/// Borrows the ids, if the file stores them in the same way as `T`.
pub(super) fn borrow<T: Gathered>(stored: Stored, bytes: &[u8]) -> Option<&[T]> {
    if cfg!(target_endian = "big") || stored.bytes() != size_of::<T>() {
        return None;
    }
    let ids: &[T] = bytemuck::try_cast_slice(bytes).ok()?;
    let signed = matches!(stored, Stored::I8 | Stored::I16 | Stored::I32 | Stored::I64);
    let sign = 1 << (8 * size_of::<T>() - 1);
    (!signed || T::union(ids) & sign == 0).then_some(ids)
}
