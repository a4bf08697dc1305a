//! A packed block that has been checked, and the calls that decode it.

use super::decode::{Decode, Row};
use super::layout::{GUARD, HEADER, MAGIC, MAX_COUNT, ROW, T4, VERSION, ZERO};
use super::sink::{Sink, Spread, past_the_caches};
use super::t4_rans;
use crate::simd::Level;
use crate::simd::quads::Value;
use crate::{Error, Result, memory, threads};

/// A block whose header, index, guard and checksums have been checked.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    count: usize,
    steps: u32,
    level: Level,
    head: &'a [u8],
    rows: Vec<Row<'a>>,
}

impl<'a> Block<'a> {
    /// Checks everything except the coded symbols themselves.
    ///
    /// # Errors
    /// [`Error::Format`] if the bytes are not a whole, undamaged block of version 1.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let bad = |reason: String| Err(Error::Format(format!("packed block: {reason}")));
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return bad(format!("has {} bytes, expected at least {}", bytes.len(), HEADER + GUARD));
        };
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if header[..4] != MAGIC {
            return bad(format!("starts with {:02x?}, expected \"MFT4\"", &header[..4]));
        }
        if header[4] != VERSION {
            return bad(format!("has version {}, expected {VERSION}", header[4]));
        }
        let (log_steps, count, total) = (header[5], u64_at(8), u64_at(16));
        if !(9..=14).contains(&log_steps) || header[6..8] != [0, 0] || count > MAX_COUNT {
            return bad(format!("has an impossible header (log2 S {log_steps}, {count} trits)"));
        }
        let stream_len = (t4_rans::STATES as u64) << log_steps;
        let streams = u64::from(u32_at(24));
        // At most 2^40 / 2^15 streams: the sum cannot overflow.
        let least = HEADER as u64 + ROW as u64 * streams + GUARD as u64;
        if streams != count.div_ceil(stream_len) || total != bytes.len() as u64 || total < least {
            return bad(format!(
                "has {} bytes, but its header describes {streams} streams and {count} trits in {total} bytes: \
                 it is cut off or damaged",
                bytes.len()
            ));
        }
        let (index, rest) = rest.split_at(ROW * streams as usize);
        if crc32c::crc32c_append(crc32c::crc32c(&header[..28]), index) != u32_at(28) {
            return bad(
                "the checksum of the index does not match: the packed bytes are damaged".into()
            );
        }
        let (payload, guard) = rest.split_at(rest.len() - GUARD);
        if guard.iter().any(|byte| *byte != 0) {
            return bad("has guard bytes that are not zero: the packed bytes are damaged".into());
        }
        let rows = rows(index, payload)?;
        let head = &bytes[..HEADER + index.len()];
        let (count, steps, level) = (count as usize, 1 << log_steps, Level::best());
        Ok(Self { count, steps, level, head, rows })
    }

    /// Selects the instruction set that decodes the block. The default is the machine's best.
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

    /// The bytes of the header and the index.
    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Decodes all trits and writes `values[0]`, `values[1]` or `values[2]` for each trit -1, 0 or +1.
    ///
    /// # Errors
    /// [`Error::Shape`] if the length of `out` is not the number of trits, [`Error::Format`] if a stream is damaged.
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
        let outs = memory::collect(out.chunks_mut(self.stream_len()))?;
        self.decode_streams(outs, num_threads, |_, out| Spread { values, out, past })
    }

    /// Decodes each stream into a buffer of trits and passes it on as `sink(first, trits, out)`, with the
    /// index of its first trit and its own element of `outs`.
    ///
    /// # Errors
    /// As for [`Self::unpack`]; also any error that `sink` returns.
    pub fn for_each_stream<O: Send>(
        &self,
        outs: Vec<O>,
        num_threads: usize,
        sink: impl Fn(usize, &[i8], O) -> Result<()> + Sync,
    ) -> Result<()> {
        if outs.len() != self.rows.len() {
            let (n, streams) = (outs.len(), self.rows.len());
            return Err(Error::Shape(format!(
                "there are {n} outputs for {streams} streams, expected one for each stream"
            )));
        }
        let work = memory::collect(outs.into_iter().zip(&self.rows).enumerate())?;
        threads::for_each(num_threads, work, |(i, (to, row)): (usize, (O, &Row))| {
            let first = i * self.stream_len();
            let mut out = memory::zeros(self.stream_len().min(self.count - first))?;
            let count = out.len();
            let spread = Spread { values: [-1, 0, 1], out: &mut out, past: false };
            self.level.run(Decode { row, trits: count, sink: spread })?;
            sink(first, &out, to)
        })
    }

    /// Decodes the streams in parallel. `sink(first, out)` makes the sink of one stream from the index of
    /// its first trit and its own element of `outs`.
    ///
    /// # Errors
    /// As for [`Self::unpack`]; also any error that a sink returns.
    pub(crate) fn decode_streams<O: Send, S: Sink>(
        &self,
        outs: Vec<O>,
        num_threads: usize,
        sink: impl Fn(usize, O) -> S + Sync,
    ) -> Result<()> {
        let work = memory::collect(outs.into_iter().zip(&self.rows).enumerate())?;
        threads::for_each(num_threads, work, |(i, (out, row)): (usize, (O, &Row))| {
            let first = i * self.stream_len();
            let trits = self.stream_len().min(self.count - first);
            self.level.run(Decode { row, trits, sink: sink(first, out) })
        })
    }

    /// Number of trits in each stream except the last, which may be shorter.
    pub fn stream_len(&self) -> usize {
        t4_rans::STATES * self.steps as usize
    }
}

/// Checks the index against the payload (docs/expert-format.md, section 4.2).
fn rows<'a>(index: &[u8], payload: &'a [u8]) -> Result<Vec<Row<'a>>> {
    let (index, _) = index.as_chunks::<ROW>();
    let word = |row: &[u8; ROW], at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| row[at + i]));
    let start =
        |i: usize| index.get(i).map_or(payload.len() as u64, |row| 16 * u64::from(word(row, 0)));
    let mut rows = memory::with_room(index.len())?;
    for (i, row) in index.iter().enumerate() {
        let bad = |reason: &str| Err(Error::Format(format!("packed block: stream {i} {reason}")));
        let (from, to) = (start(i), start(i + 1));
        if (i == 0 && from != 0) || from > to || to > payload.len() as u64 {
            return bad("is not inside the payload");
        }
        // Both are at most payload.len(), a usize.
        let bytes = &payload[from as usize..to as usize];
        let (nonzeros, coding, class) = (word(row, 4), row[8], row[9]);
        if coding > ZERO || row[10..12] != [0, 0] || (coding != T4 && class != 0) {
            return bad(&format!("has the unknown coding {coding}, class {class}"));
        }
        if bytes.is_empty() != (coding == ZERO) || (nonzeros == 0) != (coding == ZERO) {
            return bad("is empty but not marked as zero, or marked as zero but not empty");
        }
        if crc32c::crc32c(bytes) != word(row, 12) {
            return bad("does not match its checksum: the packed bytes are damaged");
        }
        rows.push(Row { bytes, nonzeros, coding, class });
    }
    if index.is_empty() && !payload.is_empty() {
        return Err(Error::Format("packed block: has a payload but no streams".into()));
    }
    Ok(rows)
}
