//! Allocations whose size follows from the input. They return an error where `vec!` and `collect`
//! would end the process.

use std::mem::size_of;

use bytemuck::Zeroable;
use memmap2::MmapOptions;

use crate::{Error, Result};

/// Makes an empty vector with room for `count` elements.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub fn with_room<T>(count: usize) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(count).map_err(|_| short::<T>(count))?;
    Ok(vec)
}

/// Makes a vector of `count` zeros, whose pages the system provides when they are written.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub fn zeros<T: Zeroable>(count: usize) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(count).map_err(|()| short::<T>(count))
}

/// Makes a vector of what `make` returns, `count` times.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub fn filled<T>(count: usize, make: impl FnMut() -> T) -> Result<Vec<T>> {
    let mut vec = with_room(count)?;
    vec.resize_with(count, make);
    Ok(vec)
}

/// Collects items, as [`Iterator::collect`] does.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub fn collect<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let items = items.into_iter();
    let mut vec = with_room(items.size_hint().0)?;
    for item in items {
        push(&mut vec, item)?;
    }
    Ok(vec)
}

/// Appends an item, as [`Vec::push`] does.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
#[inline(always)]
pub fn push<T>(vec: &mut Vec<T>, item: T) -> Result<()> {
    if vec.len() == vec.capacity() {
        grow(vec, 1)?;
    }
    vec.push(item);
    Ok(())
}

/// Makes room for `more` elements; the capacity at least doubles when it grows.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub fn grow<T>(vec: &mut Vec<T>, more: usize) -> Result<()> {
    vec.try_reserve(more).map_err(|_| short::<T>(vec.len().saturating_add(more)))
}

/// Copies a slice, as `to_vec` does.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub fn copied<T: Clone>(items: &[T]) -> Result<Vec<T>> {
    let mut vec = with_room(items.len())?;
    vec.extend_from_slice(items);
    Ok(vec)
}

/// Checks that this many bytes can be had, and gives them back: for code of others that allocates
/// in small pieces, none of which may fail.
///
/// The bytes are mapped and not taken from the heap, whose thresholds a large block would move.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub fn expect(bytes: usize) -> Result<()> {
    MmapOptions::new().len(bytes).map_anon().map(drop).map_err(|_| Error::Memory { bytes })
}

fn short<T>(count: usize) -> Error {
    Error::Memory { bytes: count.saturating_mul(size_of::<T>()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error() {
        const MOST: usize = isize::MAX as usize;
        fn bytes<T: std::fmt::Debug>(found: Result<T>) -> usize {
            match found.unwrap_err() {
                Error::Memory { bytes } => bytes,
                other => panic!("{other}"),
            }
        }
        assert_eq!(bytes(with_room::<u8>(MOST)), MOST);
        assert_eq!(bytes(zeros::<u64>(MOST)), usize::MAX);
        assert_eq!(bytes(filled(MOST / 4, || 1u32)), MOST / 4 * 4);
        assert_eq!(bytes(collect((0..MOST).map(|_| 0u16))), usize::MAX - 1);
        assert_eq!(bytes(grow(&mut vec![0u8; 8], MOST)), MOST + 8);
        assert_eq!(bytes(expect(MOST)), MOST);
        assert_eq!(collect("abc".chars().filter(|c| *c > 'a')).unwrap(), ['b', 'c']);
        assert_eq!(filled(3, Vec::<u8>::new).unwrap().len(), 3);
        assert_eq!(zeros::<u16>(0).unwrap(), copied::<u16>(&[]).unwrap());
        expect(1 << 20).unwrap();
    }
}
