//! The integer types of token ids.

/// An integer type of token ids.
pub trait Token: Copy + Send + Sync + 'static {
    /// The id as a 64-bit integer.
    fn widen(self) -> i64;

    /// Whether every id is in `first..end`. The check compares at the ids' own width and without an
    /// early exit, so that the loop is a series of vector comparisons. `first` must not be
    /// negative.
    fn all_within(ids: &[Self], first: i64, end: i64) -> bool;

    /// Writes one byte for each id: 1 if it is outside `first..end`, otherwise 0. `first` must not
    /// be negative.
    fn mark_outside(ids: &[Self], first: i64, end: i64, marks: &mut [u8]);
}

/// An integer type of the batches that are written.
pub trait Id: Copy + Send + Sync + 'static {
    /// The largest id.
    const MAX: i64;

    /// Converts an id. An id above [`Self::MAX`] is truncated, so the caller must check it first.
    fn from_i64(id: i64) -> Self;

    /// Converts a token.
    #[inline(always)]
    fn from_token<T: Token>(token: T) -> Self {
        Self::from_i64(token.widen())
    }
}

impl Id for i32 {
    const MAX: i64 = Self::MAX as i64;

    #[inline(always)]
    fn from_i64(id: i64) -> Self {
        id as Self
    }
}

impl Id for i64 {
    const MAX: i64 = Self::MAX;

    #[inline(always)]
    fn from_i64(id: i64) -> Self {
        id
    }
}

macro_rules! token {
    ($($type:ty as $bits:ty),*) => {$(
        impl Token for $type {
            #[inline(always)]
            fn widen(self) -> i64 {
                self.into()
            }

            #[inline(always)]
            fn all_within(ids: &[Self], first: i64, end: i64) -> bool {
                let Some((first, size)) = range(first, end, <$type>::MAX as i64) else {
                    return ids.is_empty();
                };
                // As unsigned numbers, negative ids are large and wrap to large differences.
                let outside = |id: &$type| (*id as $bits).wrapping_sub(first as $bits) > size as $bits;
                !ids.iter().fold(false, |any, id| any | outside(id))
            }

            #[inline(always)]
            fn mark_outside(ids: &[Self], first: i64, end: i64, marks: &mut [u8]) {
                let Some((first, size)) = range(first, end, <$type>::MAX as i64) else {
                    return marks.fill(1);
                };
                for (mark, id) in marks.iter_mut().zip(ids) {
                    *mark = u8::from((*id as $bits).wrapping_sub(first as $bits) > size as $bits);
                }
            }
        }
    )*};
}
token!(u16 as u16, u32 as u32, i32 as u32, i64 as u64);

/// The part of `first..end` up to `largest`, as its first number and its size minus one.
fn range(first: i64, end: i64, largest: i64) -> Option<(i64, i64)> {
    let last = largest.min(end - 1);
    (first <= last).then_some((first, last - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_at_every_width() {
        fn check<T: Token + TryFrom<i64>>(ids: &[i64]) {
            let all: Vec<T> = ids.iter().filter_map(|id| T::try_from(*id).ok()).collect();
            for (first, end) in
                [(0, 1), (3, 9), (5, 5), (0, 1 << 16), (65_535, 1 << 40), (70_000, 80_000)]
            {
                let mut marks = vec![9; all.len()];
                T::mark_outside(&all, first, end, &mut marks);
                for (id, mark) in all.iter().zip(&marks) {
                    let inside = (first..end).contains(&id.widen());
                    assert_eq!(*mark == 0, inside, "{} in {first}..{end}", id.widen());
                    assert_eq!(T::all_within(&[*id], first, end), inside);
                }
            }
        }
        let ids = [-5, -1, 0, 1, 3, 8, 9, 65_535, 65_536, 75_000, 1 << 31, i64::MIN, i64::MAX];
        check::<u16>(&ids);
        check::<u32>(&ids);
        check::<i32>(&ids);
        check::<i64>(&ids);
    }
}
