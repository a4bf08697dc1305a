//! From trits to a packed block; the streams are coded in parallel.

use super::keys::{keys_of_trits, kinds_of_keys, nonzeros};
use super::layout::{BITMASK, GUARD, HEADER, MAGIC, ROW, T4, VERSION, ZERO};
use super::{bitmask, t4_rans};
use crate::simd::{Job, Lanes, Level};
use crate::{Error, Result, memory, threads};

/// How the streams of a block are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// T4-rANS, or the bitmask for streams that are smaller with it.
    T4,
    /// A bitmask followed by the signs.
    Bitmask,
}

/// The parameter S that is used for `count` trits: a stream has 64 S of them.
#[must_use]
pub fn default_steps(count: usize) -> u32 {
    if count < 2_000_000 { 2048 } else { 4096 }
}

/// A coded stream and the contents of its row of the index.
pub(super) struct Stream {
    pub bytes: Vec<u8>,
    pub nonzeros: u32,
    pub coding: u8,
    pub class: u8,
}

/// Packs trits into a block.
///
/// # Errors
/// [`Error::Argument`] if a trit is not -1, 0 or 1, `steps` is not a power of two in 512..=16384,
/// or the payload would exceed 64 GiB; [`Error::Memory`] if there is not enough memory.
pub fn pack(
    trits: &[i8],
    coding: Coding,
    steps: u32,
    level: Level,
    num_threads: usize,
) -> Result<Vec<u8>> {
    let stream_len = stream_len(steps)?;
    let mut streams = memory::filled(trits.len().div_ceil(stream_len), || None)?;
    let work = memory::collect(streams.iter_mut().zip(trits.chunks(stream_len)).enumerate())?;
    threads::for_each(num_threads, work, |(i, (slot, trits)): (usize, (_, &[i8]))| {
        *slot = Some(level.run(Encode { trits, first: i * stream_len, coding })?);
        Ok(())
    })?;
    assemble(trits.len(), steps, &memory::collect(streams.into_iter().flatten())?)
}

/// Number of trits in a stream.
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
        let mut keys = memory::zeros(trits.len().next_multiple_of(64) / 4)?;
        let keys = keys_of_trits::<L>(trits, &mut keys).map_err(|at| {
            let value = format!("{} at index {}", trits[at], first + at);
            Error::argument("trits", value, "-1, 0 or 1")
        })?;
        let nonzeros = nonzeros(keys) as u32;
        if nonzeros == 0 {
            return Ok(Stream { bytes: Vec::new(), nonzeros, coding: ZERO, class: 0 });
        }
        if coding == Coding::T4 {
            let (class, estimate) = t4_rans::plan(kinds_of_keys(keys));
            if estimate <= bitmask::encoded_len(trits.len(), nonzeros.into()) as u64 {
                let bytes = t4_rans::encode::<L>(keys, class)?;
                return Ok(Stream { bytes, nonzeros, coding: T4, class });
            }
        }
        let bytes = bitmask::encode::<L>(keys, trits.len())?;
        Ok(Stream { bytes, nonzeros, coding: BITMASK, class: 0 })
    }
}

/// Joins coded streams to a block.
///
/// # Errors
/// [`Error::Argument`] if the payload would exceed 64 GiB.
pub(super) fn assemble(count: usize, steps: u32, streams: &[Stream]) -> Result<Vec<u8>> {
    let payload: usize = streams.iter().map(|s| s.bytes.len()).sum();
    let total = HEADER + ROW * streams.len() + payload + GUARD;
    let mut index = memory::with_room(ROW * streams.len())?;
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
    let mut block = memory::with_room(total)?;
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
