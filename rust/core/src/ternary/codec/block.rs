//! Header, index, payload and guard of a packed block; streams are coded in parallel.

use super::keys::{BLOCK, TakeKeys, keys_of_trits, kinds_of_keys, nonzeros};
use super::sink::{Sink, Spread, past_the_caches};
use super::{bitmask, t4_rans};
use crate::simd::quads::Value;
use crate::simd::{Job, Lanes, Level};
use crate::{Error, Result, threads};

const MAGIC: [u8; 4] = *b"MFT4";
const VERSION: u8 = 1;
const HEADER: usize = 32;
const ROW: usize = 16;
const GUARD: usize = 256;
const MAX_COUNT: u64 = 1 << 40;

const T4: u8 = 0;
const BITMASK: u8 = 1;
const ZERO: u8 = 2;

/// How the streams of a block are to be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// T4-rANS, or the bitmask where it is smaller.
    T4,
    /// Bitmask and signs.
    Bitmask,
}

/// The parameter S for this many trits: 64 S of them make a stream.
#[must_use]
pub fn default_steps(count: usize) -> u32 {
    if count < 2_000_000 { 2048 } else { 4096 }
}

/// A coded stream and its row of the index.
pub(super) struct Stream {
    bytes: Vec<u8>,
    nonzeros: u32,
    coding: u8,
    class: u8,
}

/// Packs trits into a block.
///
/// # Errors
/// [`Error::Argument`] if a trit is not -1, 0 or 1, `steps` is not a power of two in 512..=16384, or
/// the payload would pass 64 GiB.
pub fn pack(
    trits: &[i8],
    coding: Coding,
    steps: u32,
    level: Level,
    num_threads: usize,
) -> Result<Vec<u8>> {
    let stream_len = stream_len(steps)?;
    let mut streams: Vec<Option<Stream>> = Vec::new();
    streams.resize_with(trits.len().div_ceil(stream_len), || None);
    let work: Vec<_> = streams.iter_mut().zip(trits.chunks(stream_len)).enumerate().collect();
    threads::for_each(num_threads, work, |(i, (slot, trits))| {
        *slot = Some(level.run(Encode { trits, first: i * stream_len, coding })?);
        Ok(())
    })?;
    assemble(trits.len(), steps, &streams.into_iter().flatten().collect::<Vec<_>>())
}

/// Trits of a stream.
///
/// # Errors
/// [`Error::Argument`] if `steps` is not a power of two in 512..=16384.
pub(super) fn stream_len(steps: u32) -> Result<usize> {
    if !steps.is_power_of_two() || !(512..=16384).contains(&steps) {
        return Err(Error::argument("steps", steps, "a power of two from 512 to 16384"));
    }
    Ok(t4_rans::STATES * steps as usize)
}

/// Codes one stream, whose first trit has the index `first` in the whole sequence.
pub(super) struct Encode<'a> {
    pub trits: &'a [i8],
    pub first: usize,
    pub coding: Coding,
}

impl Job for Encode<'_> {
    type Output = Result<Stream>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Result<Stream> {
        let Self { trits, first, coding } = self;
        let keys = keys_of_trits::<L>(trits).map_err(|at| {
            let what = format!("{} at index {}", trits[at], first + at);
            Error::argument("trits", what, "-1, 0 or 1")
        })?;
        let nonzeros = nonzeros(&keys) as u32;
        if nonzeros == 0 {
            return Ok(Stream { bytes: Vec::new(), nonzeros, coding: ZERO, class: 0 });
        }
        if coding == Coding::T4 {
            let (class, estimate) = t4_rans::plan(kinds_of_keys(&keys));
            if estimate <= bitmask::encoded_len(trits.len(), nonzeros.into()) as u64 {
                let bytes = t4_rans::encode::<L>(&keys, class);
                return Ok(Stream { bytes, nonzeros, coding: T4, class });
            }
        }
        let bytes = bitmask::encode::<L>(&keys, trits.len());
        Ok(Stream { bytes, nonzeros, coding: BITMASK, class: 0 })
    }
}

pub(super) fn assemble(count: usize, steps: u32, streams: &[Stream]) -> Result<Vec<u8>> {
    let payload: usize = streams.iter().map(|s| s.bytes.len()).sum();
    let total = HEADER + ROW * streams.len() + payload + GUARD;
    let mut index = Vec::with_capacity(ROW * streams.len());
    let mut start = 0usize;
    for stream in streams {
        let unit = u32::try_from(start / 16)
            .map_err(|_| Error::argument("trits", count, "a payload of at most 64 GiB"))?;
        index.extend_from_slice(&unit.to_le_bytes());
        index.extend_from_slice(&stream.nonzeros.to_le_bytes());
        index.extend_from_slice(&[stream.coding, stream.class, 0, 0]);
        index.extend_from_slice(&crc32c::crc32c(&stream.bytes).to_le_bytes());
        start += stream.bytes.len();
    }
    let mut block = Vec::with_capacity(total);
    block.extend_from_slice(&MAGIC);
    block.extend_from_slice(&[VERSION, steps.ilog2() as u8, 0, 0]);
    block.extend_from_slice(&(count as u64).to_le_bytes());
    block.extend_from_slice(&(total as u64).to_le_bytes());
    block.extend_from_slice(&(streams.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&block), &index);
    block.extend_from_slice(&crc.to_le_bytes());
    block.extend_from_slice(&index);
    for stream in streams {
        block.extend_from_slice(&stream.bytes);
    }
    block.resize(total, 0);
    Ok(block)
}

/// A block whose header, index, guard and checksums have been checked.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    count: usize,
    steps: u32,
    level: Level,
    head: &'a [u8],
    rows: Vec<Row<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    bytes: &'a [u8],
    nonzeros: u32,
    coding: u8,
    class: u8,
}

impl<'a> Block<'a> {
    /// Checks everything but the coded symbols themselves.
    ///
    /// # Errors
    /// [`Error::Format`] if the bytes are not a whole, undamaged block of version 1.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let bad = |what: String| Err(Error::Format(format!("packed block: {what}")));
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return bad(format!("{} bytes, expected at least {}", bytes.len(), HEADER + GUARD));
        };
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if header[..4] != MAGIC {
            return bad(format!("starts with {:02x?}, expected \"MFT4\"", &header[..4]));
        }
        if header[4] != VERSION {
            return bad(format!("version {}, this reader knows {VERSION}", header[4]));
        }
        let (log_steps, count, total) = (header[5], u64_at(8), u64_at(16));
        if !(9..=14).contains(&log_steps) || header[6..8] != [0, 0] || count > MAX_COUNT {
            return bad(format!("impossible header (log2 S {log_steps}, {count} trits)"));
        }
        let stream_len = (t4_rans::STATES as u64) << log_steps;
        let streams = u64::from(u32_at(24));
        // At most 2^40 / 2^15 streams: the sum cannot overflow.
        let least = HEADER as u64 + ROW as u64 * streams + GUARD as u64;
        if streams != count.div_ceil(stream_len) || total != bytes.len() as u64 || total < least {
            return bad(format!(
                "{} bytes hold {streams} streams and {count} trits of {total} bytes: cut or damaged",
                bytes.len()
            ));
        }
        let (index, rest) = rest.split_at(ROW * streams as usize);
        if crc32c::crc32c_append(crc32c::crc32c(&header[..28]), index) != u32_at(28) {
            return bad("the checksum of its index does not match: damaged".into());
        }
        let (payload, guard) = rest.split_at(rest.len() - GUARD);
        if guard.iter().any(|byte| *byte != 0) {
            return bad("guard bytes are not zero".into());
        }
        let rows = rows(index, payload)?;
        let head = &bytes[..HEADER + index.len()];
        let (count, steps, level) = (count as usize, 1 << log_steps, Level::best());
        Ok(Self { count, steps, level, head, rows })
    }

    /// The same block, to be decoded with the instructions of a level: by default the machine's best.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// Number of trits.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of nonzero trits.
    pub fn nonzeros(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.nonzeros)).sum()
    }

    /// The parameter S.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// Header and index.
    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Decodes all trits; `values` are those of trits -1, 0 and +1.
    ///
    /// # Errors
    /// [`Error::Shape`] if `out` has another length, [`Error::Format`] if a stream is damaged.
    pub fn unpack<T: Value>(
        &self,
        values: [T; 3],
        out: &mut [T],
        num_threads: usize,
    ) -> Result<()> {
        if out.len() != self.count {
            let (n, count) = (out.len(), self.count);
            return Err(Error::Shape(format!(
                "out has {n} elements, the block holds {count} trits"
            )));
        }
        let past = past_the_caches(out);
        let outs = out.chunks_mut(self.stream_len()).collect();
        self.decode_streams(outs, num_threads, |_, out| Spread { values, out, past })
    }

    /// Decodes stream by stream into a buffer of trits and hands each to `sink` with its first index.
    ///
    /// `outs` are what the streams write to, one each: `sink(first, trits, out)`.
    ///
    /// # Errors
    /// As [`Self::unpack`], and what `sink` returns.
    pub fn for_each_stream<O: Send>(
        &self,
        outs: Vec<O>,
        num_threads: usize,
        sink: impl Fn(usize, &[i8], O) -> Result<()> + Sync,
    ) -> Result<()> {
        if outs.len() != self.rows.len() {
            let (n, streams) = (outs.len(), self.rows.len());
            return Err(Error::Shape(format!("{n} outputs for {streams} streams")));
        }
        let work = outs.into_iter().zip(&self.rows).enumerate().collect();
        threads::for_each(num_threads, work, |(i, (to, row)): (usize, (O, &Row))| {
            let first = i * self.stream_len();
            let mut out = vec![0; self.stream_len().min(self.count - first)];
            let count = out.len();
            let spread = Spread { values: [-1, 0, 1], out: &mut out, past: false };
            self.level.run(Decode { row, trits: count, sink: spread })?;
            sink(first, &out, to)
        })
    }

    /// Decodes stream by stream, in the threads of one call: `sink(first trit, out)` is what takes
    /// the quads of a stream. There is an `out` for each.
    ///
    /// # Errors
    /// As [`Self::unpack`], and what the sinks return.
    pub(crate) fn decode_streams<O: Send, S: Sink>(
        &self,
        outs: Vec<O>,
        num_threads: usize,
        sink: impl Fn(usize, O) -> S + Sync,
    ) -> Result<()> {
        let work = outs.into_iter().zip(&self.rows).enumerate().collect();
        threads::for_each(num_threads, work, |(i, (out, row)): (usize, (O, &Row))| {
            let first = i * self.stream_len();
            let trits = self.stream_len().min(self.count - first);
            self.level.run(Decode { row, trits, sink: sink(first, out) })
        })
    }

    /// Trits of a stream, the last one apart.
    pub fn stream_len(&self) -> usize {
        t4_rans::STATES * self.steps as usize
    }
}

/// Checks the index against the payload (format page 4.2).
fn rows<'a>(index: &[u8], payload: &'a [u8]) -> Result<Vec<Row<'a>>> {
    let (index, _) = index.as_chunks::<ROW>();
    let word = |row: &[u8; ROW], at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| row[at + i]));
    let start =
        |i: usize| index.get(i).map_or(payload.len() as u64, |row| 16 * u64::from(word(row, 0)));
    let mut rows = Vec::with_capacity(index.len());
    for (i, row) in index.iter().enumerate() {
        let bad = |what: &str| Err(Error::Format(format!("packed block: stream {i} {what}")));
        let (from, to) = (start(i), start(i + 1));
        if (i == 0 && from != 0) || from > to || to > payload.len() as u64 {
            return bad("does not lie in the payload");
        }
        // Both are at most payload.len(), a usize.
        let bytes = &payload[from as usize..to as usize];
        let (nonzeros, coding, class) = (word(row, 4), row[8], row[9]);
        if coding > ZERO || row[10..12] != [0, 0] || (coding != T4 && class != 0) {
            return bad(&format!("has the unknown coding {coding}, class {class}"));
        }
        if bytes.is_empty() != (coding == ZERO) || (nonzeros == 0) != (coding == ZERO) {
            return bad("is empty without being zero, or zero without being empty");
        }
        if crc32c::crc32c(bytes) != word(row, 12) {
            return bad("does not match its checksum: damaged");
        }
        rows.push(Row { bytes, nonzeros, coding, class });
    }
    if index.is_empty() && !payload.is_empty() {
        return Err(Error::Format("packed block: a payload without streams".into()));
    }
    Ok(rows)
}

/// Decodes one stream into a sink.
struct Decode<'a, 'b, S> {
    row: &'a Row<'b>,
    trits: usize,
    sink: S,
}

impl<S: Sink> Job for Decode<'_, '_, S> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Result<()> {
        let Self { row, trits, sink } = self;
        let quads = trits.div_ceil(4);
        let sink = sink.start::<L>();
        let mut counted = Counted::<S, L> { sink, trits, done: 0, nonzeros: 0 };
        match row.coding {
            T4 => t4_rans::decode::<L>(row.bytes, row.class, quads, &mut counted)?,
            BITMASK => bitmask::decode::<L>(row.bytes, trits, &mut counted)?,
            _ => {
                for first in (0..quads).step_by(BLOCK) {
                    counted.take(&[0; BLOCK][..BLOCK.min(quads - first)])?;
                }
            }
        }
        let Counted { sink, nonzeros, .. } = counted;
        if nonzeros != u64::from(row.nonzeros) {
            let expected = row.nonzeros;
            return Err(damaged(format!("has {nonzeros} nonzeros, its index says {expected}")));
        }
        S::end::<L>(sink)
    }
}

/// A sink, and what is checked before it.
struct Counted<S: Sink, L: Lanes> {
    sink: S::State<L>,
    trits: usize,
    /// Trits that the sink has.
    done: usize,
    nonzeros: u64,
}

impl<S: Sink, L: Lanes> TakeKeys for Counted<S, L> {
    #[inline(always)]
    fn take(&mut self, keys: &[u8]) -> Result<()> {
        self.nonzeros += nonzeros(keys);
        let first = self.done;
        self.done += 4 * keys.len();
        // Of the last quad those trits that are there.
        let past = self.done.saturating_sub(self.trits);
        if past > 0 && keys.last().is_some_and(|key| (key & 15) >> (4 - past) != 0) {
            return Err(damaged("has a nonzero trit past its end".into()));
        }
        S::take::<L>(&mut self.sink, first, keys)
    }
}

fn damaged(what: String) -> Error {
    Error::Format(format!("packed block: a stream {what}: the packed bytes are damaged"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Trits of any density, uneven along the sequence.
    fn trits() -> impl Strategy<Value = Vec<i8>> {
        (0..80_000usize, 0..=100u64, any::<u64>()).prop_map(|(count, percent, seed)| {
            let mut state = seed | 1;
            (0..count)
                .map(|i| {
                    state =
                        state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let dense = if i % 40_000 < 32_768 { percent } else { percent / 8 };
                    let draw = state >> 33;
                    if draw % 100 >= dense { 0 } else { (draw / 100 % 2) as i8 * 2 - 1 }
                })
                .collect()
        })
    }

    fn decode(level: Level, row: Row<'_>, trits: usize) -> Result<Vec<i8>> {
        let mut out = vec![9; trits];
        let sink = Spread { values: [-1, 0, 1], out: &mut out, past: false };
        level.run(Decode { row: &row, trits, sink })?;
        Ok(out)
    }

    fn unpack(bytes: &[u8], threads: usize) -> Result<Vec<i8>> {
        let block = Block::parse(bytes)?;
        let mut out = vec![9; block.count()];
        block.unpack([-1, 0, 1], &mut out, threads)?;
        Ok(out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn round_trip(trits in trits(), bitmask: bool, steps in 9..=14u32, threads in 1..4usize) {
            let coding = if bitmask { Coding::Bitmask } else { Coding::T4 };
            let bytes = pack(&trits, coding, 1 << steps, Level::best(), threads).unwrap();
            for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
                prop_assert_eq!(&bytes, &pack(&trits, coding, 1 << steps, level, 1).unwrap());
                let mut out = vec![9; trits.len()];
                let block = Block::parse(&bytes).unwrap().at(level);
                block.unpack([-1, 0, 1], &mut out, threads).unwrap();
                prop_assert_eq!(&out, &trits);
            }
        }

        #[test]
        fn damage_is_an_error_or_harmless(
            trits in trits(), at: prop::sample::Index, bit in 0..8, cut: prop::sample::Index,
        ) {
            let bytes = pack(&trits, Coding::T4, 512, Level::best(), 1).unwrap();
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1u8 << bit;
            prop_assert!(unpack(&flipped, 1).is_err());
            prop_assert!(unpack(&bytes[..cut.index(bytes.len())], 1).is_err());
            let mut longer = bytes.clone();
            longer.push(0);
            prop_assert!(unpack(&longer, 1).is_err());
        }

        /// Checksums mended: the decoder alone stands between the bytes and memory.
        #[test]
        fn forged_streams_never_panic(
            count in 0..5000usize, class: u8, bitmask: bool,
            stream in prop::collection::vec(any::<u8>(), 0..3000),
        ) {
            let row = Row { bytes: &stream, nonzeros: 1, coding: u8::from(bitmask), class };
            let expected = decode(Level::Scalar, row, count).map_err(|e| e.to_string());
            for level in [Level::Avx2, Level::Avx512] {
                prop_assert_eq!(&decode(level, row, count).map_err(|e| e.to_string()), &expected);
            }
        }

        /// A real stream, damaged under a mended checksum: an error, or trits of the right number.
        #[test]
        fn damaged_streams_never_panic(
            trits in trits(), at: prop::sample::Index, bit in 0..8, splice: prop::sample::Index,
        ) {
            prop_assume!(!trits.is_empty());
            let coded = Encode { trits: &trits, first: 0, coding: Coding::T4 };
            let Stream { mut bytes, nonzeros, coding, class } =
                Level::Scalar.run(coded).unwrap();
            prop_assume!(!bytes.is_empty());
            let padding = bytes.iter().rev().take_while(|byte| **byte == 0).count();
            let end = splice.index(bytes.len() - padding);
            let position = at.index(bytes.len());
            bytes[position] ^= 1u8 << bit;
            let half = &bytes[..end];
            for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
                let row = Row { bytes: &bytes, nonzeros, coding, class };
                let _ = decode(level, row, trits.len());
                let cut = Row { bytes: half, ..row };
                let found = decode(level, cut, trits.len());
                prop_assert!(found.is_err());
            }
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut forged = MAGIC.to_vec();
            forged.extend_from_slice(&[1, 9, 0, 0]);
            forged.extend_from_slice(&bytes);
            prop_assert!(unpack(&forged, 1).is_err());
        }
    }

    #[test]
    fn trits_out_of_range_are_named() {
        let mut trits = vec![0i8; 40_000];
        trits[35_000] = 2;
        let error = pack(&trits, Coding::T4, 512, Level::best(), 2).unwrap_err().to_string();
        assert_eq!(error, "trits is 2 at index 35000, expected -1, 0 or 1");
        assert!(pack(&[], Coding::T4, 1000, Level::best(), 1).is_err());
    }

    #[test]
    fn an_empty_sequence_and_a_zero_one() {
        assert_eq!(pack(&[], Coding::T4, 2048, Level::best(), 1).unwrap().len(), HEADER + GUARD);
        let zero = pack(&vec![0; 1 << 20], Coding::T4, 2048, Level::best(), 1).unwrap();
        assert_eq!(zero.len(), HEADER + 8 * ROW + GUARD);
        assert_eq!(unpack(&zero, 2).unwrap(), vec![0; 1 << 20]);
    }

    #[test]
    fn short_streams_fall_back_to_the_bitmask() {
        let trits: Vec<i8> =
            (0..500).map(|i| i8::from(i % 3 == 0) - i8::from(i % 5 == 0)).collect();
        let bytes = pack(&trits, Coding::T4, 512, Level::best(), 1).unwrap();
        assert_eq!(bytes[HEADER + 8], BITMASK);
        assert_eq!(unpack(&bytes, 1).unwrap(), trits);
    }
}
