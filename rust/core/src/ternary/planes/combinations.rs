//! The combinations of several experts' trits: looked up in tables, or counted.

use super::decode::Planes;
use super::pieces::{MAX_EXPERTS, Parts, Piece, check};
use crate::simd::{Job, Lanes, Level};
use crate::{Error, Result, memory, threads};

/// Number of positions whose combinations are found at a time.
const BLOCK: usize = 64;
/// Number of positions that a thread takes at a time.
const SHARE: usize = 1 << 16;

/// Looks up the combination of each position: `out[i] = tables[piece.table][combination]`.
/// Positions between the pieces are left unchanged.
///
/// # Errors
/// [`Error::Shape`] if the sizes of the planes, pieces, tables and `out` do not match.
pub fn look_up(
    experts: &[Planes<'_>],
    pieces: &[Piece],
    tables: &[&[f32]],
    out: &mut [f32],
    level: Level,
    num_threads: usize,
) -> Result<()> {
    check(experts, pieces, tables.len(), out.len())?;
    let size = 1usize << (2 * experts.len());
    if tables.iter().any(|table| table.len() != size) {
        return Err(Error::Shape(format!(
            "a table does not have the {size} entries that {} experts need",
            experts.len()
        )));
    }
    let work = memory::collect(out.chunks_mut(SHARE).enumerate())?;
    threads::for_each(num_threads, work, |(share, out): (usize, &mut [f32])| {
        level.run(LookUp { experts, pieces, tables, first: share * SHARE, out });
        Ok(())
    })
}

struct LookUp<'a> {
    experts: &'a [Planes<'a>],
    pieces: &'a [Piece],
    tables: &'a [&'a [f32]],
    first: usize,
    out: &'a mut [f32],
}

impl Job for LookUp<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { experts, pieces, tables, first, out } = self;
        let size = 1usize << (2 * experts.len());
        for part in Parts::new(pieces, first, out.len()) {
            let table = &tables[part.table][..size];
            for begin in (part.from..part.to).step_by(BLOCK) {
                let out = &mut out[begin..part.to.min(begin + BLOCK)];
                let (low, high) = combinations::<L>(experts, first + begin);
                // Masked, so that no bound is checked: the table has as many entries as there are
                // codes.
                if experts.len() <= 4 {
                    for (slot, low) in out.iter_mut().zip(low) {
                        *slot = table[usize::from(low) & (size - 1)];
                    }
                } else {
                    for ((slot, low), high) in out.iter_mut().zip(low).zip(high) {
                        *slot = table[(usize::from(low) | usize::from(high) << 8) & (size - 1)];
                    }
                }
            }
        }
    }
}

/// Counts how often each combination occurs in the pieces of each table; returns the counts table
/// by table.
///
/// # Errors
/// [`Error::Shape`] if the sizes of the planes and pieces do not match.
pub fn count(
    experts: &[Planes<'_>],
    pieces: &[Piece],
    tables: usize,
    len: usize,
    level: Level,
    num_threads: usize,
) -> Result<Vec<u64>> {
    check(experts, pieces, tables, len)?;
    let size = 1usize << (2 * experts.len());
    let shares = len.div_ceil(SHARE);
    let threads = num_threads.clamp(1, shares.max(1));
    let places = tables.checked_mul(size).ok_or(Error::Memory { bytes: usize::MAX })?;
    let mut totals = memory::with_room(threads)?;
    for _ in 0..threads {
        totals.push(memory::zeros(places)?);
    }
    let work = memory::collect(totals.iter_mut().enumerate())?;
    threads::for_each(threads, work, |(thread, totals): (usize, &mut Vec<u64>)| {
        for share in (thread..shares).step_by(threads) {
            let first = share * SHARE;
            level.run(Count { experts, pieces, first, len: SHARE.min(len - first), totals });
        }
        Ok(())
    })?;
    let mut sum = memory::zeros(places)?;
    for counts in totals {
        for (total, count) in sum.iter_mut().zip(counts) {
            *total += count;
        }
    }
    Ok(sum)
}

struct Count<'a> {
    experts: &'a [Planes<'a>],
    pieces: &'a [Piece],
    first: usize,
    len: usize,
    totals: &'a mut [u64],
}

impl Job for Count<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { experts, pieces, first, len, totals } = self;
        let size = 1usize << (2 * experts.len());
        for part in Parts::new(pieces, first, len) {
            let totals = &mut totals[part.table * size..][..size];
            for begin in (part.from..part.to).step_by(BLOCK) {
                let (low, high) = combinations::<L>(experts, first + begin);
                for (low, high) in low.into_iter().zip(high).take(part.to - begin) {
                    totals[(usize::from(low) | usize::from(high) << 8) & (size - 1)] += 1;
                }
            }
        }
    }
}

/// Returns the combinations of the 64 positions that start at `first`, with two bits per expert:
/// one byte for the first four experts and one for the others.
#[inline(always)]
fn combinations<L: Lanes>(experts: &[Planes<'_>], first: usize) -> ([u8; BLOCK], [u8; BLOCK]) {
    let mut words = [0; 2 * MAX_EXPERTS];
    for (words, expert) in words.as_chunks_mut::<2>().0.iter_mut().zip(experts) {
        *words = [unaligned(expert.mask, first), unaligned(expert.negative, first)];
    }
    let (mut low, mut high) = ([0; BLOCK], [0; BLOCK]);
    let count = 2 * experts.len();
    L::bytes_of_bits(&words[..count.min(8)], &mut low);
    if count > 8 {
        L::bytes_of_bits(&words[8..count], &mut high);
    }
    (low, high)
}

/// Returns the 64 bits that start at bit `at`; bits past the end are zero.
#[inline(always)]
fn unaligned(words: &[u64], at: usize) -> u64 {
    let word = |i: usize| words.get(i).copied().unwrap_or_default();
    match at % 64 {
        0 => word(at / 64),
        shift => word(at / 64) >> shift | word(at / 64 + 1) << (64 - shift),
    }
}
