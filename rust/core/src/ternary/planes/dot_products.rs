//! Inner products of the trits of pairs of experts.

use super::decode::Planes;
use super::pieces::{Piece, check};
use crate::{Error, Result, memory, threads};

/// Computes the inner products of the trits of all pairs of n experts. The product of experts i and
/// j over the pieces of table t is at index `(i n + j) tables + t`.
///
/// # Errors
/// [`Error::Shape`] if the sizes of the planes and pieces do not match.
pub fn dot_products(
    experts: &[Planes<'_>],
    pieces: &[Piece],
    tables: usize,
    len: usize,
    num_threads: usize,
) -> Result<Vec<i64>> {
    for expert in experts {
        check(std::slice::from_ref(expert), pieces, tables, len)?;
    }
    let count = experts.len();
    let places = (count * count).checked_mul(tables);
    let mut all = memory::zeros(places.ok_or(Error::Memory { bytes: usize::MAX })?)?;
    let work = memory::collect(all.chunks_mut((count * tables).max(1)).zip(experts).enumerate())?;
    threads::for_each(num_threads, work, |(i, (row, a)): (usize, (&mut [i64], &Planes<'_>))| {
        for (j, (out, b)) in row.chunks_mut(tables.max(1)).zip(experts).enumerate() {
            if j <= i {
                for piece in pieces {
                    out[piece.table] += dot(a, b, piece.start, piece.len);
                }
            }
        }
        Ok(())
    })?;
    for i in 0..count {
        for j in i + 1..count {
            all.copy_within(
                (j * count + i) * tables..(j * count + i + 1) * tables,
                (i * count + j) * tables,
            );
        }
    }
    Ok(all)
}

/// Number of trits that are equal and not zero, minus the number of trits that are opposite.
fn dot(a: &Planes<'_>, b: &Planes<'_>, start: usize, len: usize) -> i64 {
    if len == 0 {
        return 0;
    }
    let (first, last) = (start / 64, (start + len - 1) / 64);
    let edge = |i: usize| {
        let low = if i == first { u64::MAX << (start % 64) } else { u64::MAX };
        let high = if i == last { u64::MAX >> (63 - (start + len - 1) % 64) } else { u64::MAX };
        low & high
    };
    let of = |i: usize, keep: u64| {
        let both = a.mask[i] & b.mask[i] & keep;
        let opposite = both & (a.negative[i] ^ b.negative[i]);
        i64::from(both.count_ones()) - 2 * i64::from(opposite.count_ones())
    };
    let inner: i64 = (first + 1..last).map(|i| of(i, u64::MAX)).sum();
    let ends = if first == last { 0 } else { of(last, edge(last)) };
    of(first, edge(first)) + inner + ends
}
