//! Sinks, which take the quads of a stream while it is decoded.

use crate::Result;
use crate::simd::Lanes;
use crate::simd::quads::Value;

/// Takes the keys of a stream's quads in order, block by block.
pub(crate) trait Sink {
    /// The state that is kept between blocks, prepared for one instruction set.
    type State<L: Lanes>;
    /// Prepares for the first block.
    fn start<L: Lanes>(self) -> Self::State<L>;
    /// Takes a block of quads, which starts at trit `first` of the stream.
    ///
    /// # Errors
    /// If the sink does not accept the quads.
    fn take<L: Lanes>(state: &mut Self::State<L>, first: usize, keys: &[u8]) -> Result<()>;
    /// Finishes after the last block.
    ///
    /// # Errors
    /// If the sink does not accept the whole stream.
    fn end<L: Lanes>(_state: Self::State<L>) -> Result<()> {
        Ok(())
    }
}

/// Writes the values of a whole stream.
pub(crate) struct Spread<'a, T> {
    /// The values of -1, 0 and +1.
    pub values: [T; 3],
    /// One element for each trit of the stream.
    pub out: &'a mut [T],
    /// Whether to write past the caches: see [`past_the_caches`].
    pub past: bool,
}

impl<'a, T: Value> Sink for Spread<'a, T> {
    type State<L: Lanes> = (Table<T, L>, &'a mut [T], bool);

    #[inline(always)]
    fn start<L: Lanes>(self) -> Self::State<L> {
        (Table::new(self.values), self.out, self.past)
    }

    #[inline(always)]
    fn take<L: Lanes>(state: &mut Self::State<L>, first: usize, keys: &[u8]) -> Result<()> {
        let (table, out, past) = state;
        let end = out.len().min(first + 4 * keys.len());
        table.write(keys, 0, &mut out[first..end], *past);
        Ok(())
    }
}

/// The values of -1, 0 and +1, prepared for writing.
pub(crate) struct Table<T: Value, L: Lanes> {
    values: [T; 3],
    quads: L::Table<T>,
}

impl<T: Value, L: Lanes> Table<T, L> {
    #[inline(always)]
    pub fn new(values: [T; 3]) -> Self {
        Self { values, quads: L::table(values) }
    }

    /// Whether the table was made from exactly these values, bit for bit.
    pub fn is_of(&self, values: [T; 3]) -> bool {
        bytemuck::bytes_of(&self.values) == bytemuck::bytes_of(&values)
    }

    /// Fills `out` with the values of the trits that start at `first`.
    #[inline(always)]
    pub fn write(&self, keys: &[u8], first: usize, out: &mut [T], past: bool) {
        let one = |trit: usize| {
            let key = keys[trit / 4] >> (trit % 4);
            self.values[usize::from(1 + (key & 1) - (key >> 3 & 2))]
        };
        let to_quad = (first.next_multiple_of(4) - first).min(out.len());
        let (head, rest) = out.split_at_mut(to_quad);
        for (i, slot) in head.iter_mut().enumerate() {
            *slot = one(first + i);
        }
        let first = first + to_quad;
        let (quads, tail) = rest.split_at_mut(rest.len() / 4 * 4);
        let (begin, count) = (first / 4, quads.len() / 4);
        L::spread(&self.quads, &keys[begin..begin + count], quads, past);
        for (i, slot) in tail.iter_mut().enumerate() {
            *slot = one(4 * (begin + count) + i);
        }
    }
}

/// Whether an output is so large that its values leave the caches before they are read.
pub(crate) fn past_the_caches<T>(out: &[T]) -> bool {
    size_of_val(out) >= PAST_THE_CACHES
}

/// Size of an output, in bytes, from which stores bypass the caches.
const PAST_THE_CACHES: usize = 32 << 20;
