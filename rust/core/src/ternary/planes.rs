//! Trits as two bits each in two planes, and what can be asked of several experts at once.
//!
//! Of k experts a position holds one of 3^k combinations of trits. A merge, whatever its rule, is a
//! table of what each combination gives; a comparison is how often each occurs.

use super::codec::{Block, Sink};
use crate::simd::quads::nibbles_together;
use crate::simd::{Job, Lanes, Level};
use crate::{Error, Result, threads};

/// Experts that one call takes: a combination is a 16-bit number, two bits an expert.
pub const MAX_EXPERTS: usize = 8;

/// The trits of an expert: bit i of word w stands for trit 64 w + i.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// Which are not zero.
    pub mask: &'a [u64],
    /// Which are negative.
    pub negative: &'a [u64],
}

/// A piece of the flat sequence whose combinations are looked up in one table.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Its first trit.
    pub start: usize,
    /// Its trits.
    pub len: usize,
    /// Which table.
    pub table: usize,
}

/// Decodes a block to its planes, `ceil(count / 64)` words each.
///
/// # Errors
/// [`Error::Shape`] if a plane has another length, [`Error::Format`] if a stream is damaged.
pub fn planes(
    block: &Block<'_>,
    mask: &mut [u64],
    negative: &mut [u64],
    num_threads: usize,
) -> Result<()> {
    let words = block.count().div_ceil(64);
    if mask.len() != words || negative.len() != words {
        let (a, b) = (mask.len(), negative.len());
        return Err(Error::Shape(format!("planes of {a} and {b} words, expected {words}")));
    }
    let words = block.stream_len() / 64;
    let outs = mask.chunks_mut(words).zip(negative.chunks_mut(words)).collect();
    block.decode_streams(outs, num_threads, |_, (mask, negative)| ToPlanes { mask, negative })
}

struct ToPlanes<'a> {
    mask: &'a mut [u64],
    negative: &'a mut [u64],
}

impl Sink for ToPlanes<'_> {
    type State<L: Lanes> = Self;

    #[inline(always)]
    fn start<L: Lanes>(self) -> Self {
        self
    }

    #[inline(always)]
    fn take<L: Lanes>(state: &mut Self, first: usize, keys: &[u8]) -> Result<()> {
        // Blocks of keys begin at multiples of 64 trits.
        let from = first / 64;
        let places = state.mask[from..].iter_mut().zip(&mut state.negative[from..]);
        for (sixteen, (mask, negative)) in keys.chunks(16).zip(places) {
            let mut bytes = [0; 16];
            bytes[..sixteen.len()].copy_from_slice(sixteen);
            let (halves, _) = bytes.as_chunks::<8>();
            let [low, high] = [halves[0], halves[1]].map(u64::from_le_bytes);
            *mask = u64::from(nibbles_together(low)) | u64::from(nibbles_together(high)) << 32;
            let [low, high] = [low >> 4, high >> 4].map(nibbles_together).map(u64::from);
            *negative = low | high << 32;
        }
        Ok(())
    }
}

/// Positions whose combinations are found at a time, and the unit of threads.
const BLOCK: usize = 64;
const SHARE: usize = 1 << 16;

/// Writes of each position what its combination gives: `out[i] = tables[piece.table][combination]`.
/// What lies between pieces is left alone.
///
/// # Errors
/// [`Error::Shape`] if the planes, pieces, tables and `out` do not fit each other.
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
        return Err(Error::Shape(format!("a table does not have {size} entries")));
    }
    let work = out.chunks_mut(SHARE).enumerate().collect();
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
                // As many entries as there are codes.
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

/// Counts of each table's combinations, table after table.
///
/// # Errors
/// [`Error::Shape`] if the planes and pieces do not fit each other.
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
    let mut totals: Vec<Vec<u64>> = vec![vec![0; tables * size]; threads];
    let work = totals.iter_mut().enumerate().collect();
    threads::for_each(threads, work, |(thread, totals): (usize, &mut Vec<u64>)| {
        for share in (thread..shares).step_by(threads) {
            let first = share * SHARE;
            level.run(Count { experts, pieces, first, len: SHARE.min(len - first), totals });
        }
        Ok(())
    })?;
    let mut sum = vec![0; tables * size];
    for counts in totals {
        for (total, count) in sum.iter_mut().zip(counts) {
            *total += count;
        }
    }
    Ok(sum)
}

/// Inner products of the trits of all pairs: of experts i and j in table t at `(i n + j) tables + t`.
///
/// # Errors
/// [`Error::Shape`] if the planes and pieces do not fit each other.
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
    let mut all = vec![0i64; count * count * tables];
    let work = all.chunks_mut((count * tables).max(1)).zip(experts).enumerate().collect();
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

/// The trits that are equal and not zero, less those that are opposite.
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

/// The parts of the pieces that lie in a share of the trits.
struct Parts<'a> {
    left: &'a [Piece],
    first: usize,
    len: usize,
}

/// A part, relative to the share's first trit.
struct Part {
    from: usize,
    to: usize,
    table: usize,
}

impl<'a> Parts<'a> {
    fn new(pieces: &'a [Piece], first: usize, len: usize) -> Self {
        let from = pieces.partition_point(|piece| piece.start + piece.len <= first);
        Self { left: &pieces[from..], first, len }
    }
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let (piece, left) = self.left.split_first()?;
        if piece.start >= self.first + self.len {
            return None;
        }
        self.left = left;
        let from = piece.start.max(self.first) - self.first;
        let to = (piece.start + piece.len - self.first).min(self.len);
        Some(Part { from, to, table: piece.table })
    }
}

/// The combinations of 64 positions from `first` on, two bits an expert: of four experts, and of
/// the others.
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

/// 64 bits from bit `at` on; zeros past the end.
#[inline(always)]
fn unaligned(words: &[u64], at: usize) -> u64 {
    let word = |i: usize| words.get(i).copied().unwrap_or_default();
    match at % 64 {
        0 => word(at / 64),
        shift => word(at / 64) >> shift | word(at / 64 + 1) << (64 - shift),
    }
}

fn check(experts: &[Planes<'_>], pieces: &[Piece], tables: usize, len: usize) -> Result<()> {
    if experts.is_empty() || experts.len() > MAX_EXPERTS {
        let count = experts.len();
        return Err(Error::Shape(format!("{count} experts, expected 1 to {MAX_EXPERTS}")));
    }
    let words = len.div_ceil(64);
    if experts.iter().any(|e| e.mask.len() != words || e.negative.len() != words) {
        return Err(Error::Shape(format!("planes do not have {words} words")));
    }
    let mut free = 0;
    for piece in pieces {
        let end = piece.start.checked_add(piece.len);
        match end.filter(|end| piece.start >= free && *end <= len && piece.table < tables) {
            Some(end) => free = end,
            None => return Err(Error::Shape("pieces do not ascend inside the trits".into())),
        }
    }
    Ok(())
}

#[cfg(test)]
// Values are looked up, not computed.
#[allow(clippy::float_cmp)]
mod tests {
    use proptest::prelude::*;

    use super::super::codec::{Coding, pack};
    use super::*;

    fn to_planes(trits: &[i8], level: Level) -> (Vec<u64>, Vec<u64>) {
        let bytes = pack(trits, Coding::T4, 512, level, 1).unwrap();
        let block = Block::parse(&bytes).unwrap().at(level);
        let words = trits.len().div_ceil(64);
        let (mut mask, mut negative) = (vec![9; words], vec![9; words]);
        planes(&block, &mut mask, &mut negative, 2).unwrap();
        (mask, negative)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn tables_and_counts_are_those_of_a_plain_loop(
            len in 1..70_000usize, k in 1..=8usize, seed: u64, threads in 1..4usize, cut: prop::sample::Index,
        ) {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) as usize
            };
            let trits: Vec<Vec<i8>> =
                (0..k).map(|_| (0..len).map(|_| (next() % 3) as i8 - 1).collect()).collect();
            let found: Vec<_> = trits.iter().map(|t| to_planes(t, Level::best())).collect();
            prop_assert_eq!(&found[0], &to_planes(&trits[0], Level::Scalar));
            let experts: Vec<Planes<'_>> =
                found.iter().map(|(mask, negative)| Planes { mask, negative }).collect();
            let (middle, size) = (cut.index(len), 1 << (2 * k));
            let pieces = [
                Piece { start: 0, len: middle, table: 1 },
                Piece { start: middle, len: len - middle, table: 0 },
            ];
            let tables: Vec<Vec<f32>> =
                (0..2).map(|t| (0..size).map(|code| (2 * code + t) as f32).collect()).collect();
            let tables: Vec<&[f32]> = tables.iter().map(Vec::as_slice).collect();
            let mut out = vec![-1.0; len];
            let level = [Level::Scalar, Level::Avx2, Level::Avx512][(seed % 3) as usize];
            look_up(&experts, &pieces, &tables, &mut out, level, threads).unwrap();
            let counts = count(&experts, &pieces, 2, len, level, threads).unwrap();
            let mut expected = vec![0; 2 * size];
            for (i, value) in out.iter().enumerate() {
                let code: usize = (0..k)
                    .map(|e| [3, 0, 1][(trits[e][i] + 1) as usize] << (2 * e))
                    .sum();
                let table = usize::from(i < middle);
                prop_assert_eq!(*value, (2 * code + table) as f32);
                expected[table * size + code] += 1;
            }
            prop_assert_eq!(counts, expected);
            let dots = dot_products(&experts, &pieces, 2, len, threads).unwrap();
            for (i, a) in trits.iter().enumerate() {
                for (j, b) in trits.iter().enumerate() {
                    let product = |range: std::ops::Range<usize>| -> i64 {
                        range.map(|p| i64::from(a[p]) * i64::from(b[p])).sum()
                    };
                    let found = &dots[2 * (i * k + j)..][..2];
                    prop_assert_eq!(found, [product(middle..len), product(0..middle)]);
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (mask, negative) = (vec![0; 2], vec![0; 2]);
        let expert = Planes { mask: &mask, negative: &negative };
        let piece = |start, len, table| Piece { start, len, table };
        assert!(count(&[expert], &[piece(0, 100, 0)], 1, 100, Level::Scalar, 1).is_ok());
        for (pieces, len) in [
            (vec![piece(0, 101, 0)], 100),
            (vec![piece(0, 50, 0), piece(40, 5, 0)], 100),
            (vec![piece(5, usize::MAX, 0)], 100),
            (vec![piece(0, 1, 1)], 100),
            (vec![], 200),
        ] {
            assert!(count(&[expert], &pieces, 1, len, Level::Scalar, 1).is_err());
        }
        assert!(count(&[], &[], 1, 100, Level::Scalar, 1).is_err());
        assert!(count(&[expert; 9], &[], 1, 100, Level::Scalar, 1).is_err());
        let mut out = [0.0; 100];
        assert!(
            look_up(&[expert], &[piece(0, 1, 0)], &[&[0.0; 3]], &mut out, Level::Scalar, 1)
                .is_err()
        );
    }
}
