//! Decodes one stream and checks it against its row of the index.

use std::marker::PhantomData;

use super::keys::{BLOCK, TakeKeys, nonzeros};
use super::layout::{BITMASK, T4};
use super::sink::Sink;
use super::{bitmask, t4_rans};
use crate::simd::{Job, Lanes};
use crate::{Error, Result};

/// A stream and its row of the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub bytes: &'a [u8],
    pub nonzeros: u32,
    pub coding: u8,
    pub class: u8,
}

/// Decodes one stream into a sink.
pub(super) struct Decode<'a, 'b, S> {
    pub row: &'a Row<'b>,
    pub trits: usize,
    pub sink: S,
}

impl<S: Sink> Job for Decode<'_, '_, S> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Result<()> {
        let Self { row, trits, sink } = self;
        let _fence = Fence(PhantomData::<L>);
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
            return Err(damaged(format!("has {nonzeros} nonzeros, but its index says {expected}")));
        }
        S::end::<L>(sink)
    }
}

/// Completes the stores of a stream before its output can be read, however its decoding ends. A
/// fence for every block of keys instead takes 6 % of the time of `unpack`.
struct Fence<L: Lanes>(PhantomData<L>);

impl<L: Lanes> Drop for Fence<L> {
    #[inline(always)]
    fn drop(&mut self) {
        L::fence();
    }
}

/// A sink, with the counts that are checked before it sees the keys.
struct Counted<S: Sink, L: Lanes> {
    sink: S::State<L>,
    trits: usize,
    /// Number of trits that the sink has taken.
    done: usize,
    nonzeros: u64,
}

impl<S: Sink, L: Lanes> TakeKeys for Counted<S, L> {
    #[inline(always)]
    fn take(&mut self, keys: &[u8]) -> Result<()> {
        self.nonzeros += nonzeros(keys);
        let first = self.done;
        self.done += 4 * keys.len();
        // Trits of the last quad that are past the end of the stream.
        let past = self.done.saturating_sub(self.trits);
        if past > 0 && keys.last().is_some_and(|key| (key & 15) >> (4 - past) != 0) {
            return Err(damaged("has a nonzero trit past its end".into()));
        }
        S::take::<L>(&mut self.sink, first, keys)
    }
}

fn damaged(reason: String) -> Error {
    Error::Format(format!("packed block: a stream {reason}: the packed bytes are damaged"))
}
