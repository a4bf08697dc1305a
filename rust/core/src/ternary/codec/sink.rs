//! What takes the quads of a stream while it is decoded.

use crate::Result;
use crate::simd::Lanes;
use crate::simd::quads::Value;

/// Takes the keys of a stream's quads, block after block, in order.
pub(crate) trait Sink {
    /// What it keeps between blocks, in the shape that the instruction set asks for.
    type State<L: Lanes>;
    /// Before the first block.
    fn start<L: Lanes>(self) -> Self::State<L>;
    /// The quads from trit `first` of the stream on.
    ///
    /// # Errors
    /// What it finds wrong with them.
    fn take<L: Lanes>(state: &mut Self::State<L>, first: usize, keys: &[u8]) -> Result<()>;
    /// After the last block.
    ///
    /// # Errors
    /// What it finds wrong with the whole.
    fn end<L: Lanes>(_state: Self::State<L>) -> Result<()> {
        Ok(())
    }
}

/// Writes the values of a whole stream.
pub(crate) struct Spread<'a, T> {
    /// Of -1, 0 and +1.
    pub values: [T; 3],
    /// As many as the stream has trits.
    pub out: &'a mut [T],
    /// See [`past_the_caches`].
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

/// The values of -1, 0 and +1, ready to be written.
pub(crate) struct Table<T: Value, L: Lanes> {
    values: [T; 3],
    quads: L::Table<T>,
}

impl<T: Value, L: Lanes> Table<T, L> {
    #[inline(always)]
    pub fn new(values: [T; 3]) -> Self {
        Self { values, quads: L::table(values) }
    }

    /// Whether it was made of these values, bit for bit.
    pub fn is_of(&self, values: [T; 3]) -> bool {
        bytemuck::bytes_of(&self.values) == bytemuck::bytes_of(&values)
    }

    /// Writes the values of the trits from `first` on, as many as `out` has.
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

/// Whether an output is so large that what is written leaves the caches before it is read.
pub(crate) fn past_the_caches<T>(out: &[T]) -> bool {
    size_of_val(out) >= PAST_THE_CACHES
}

/// Bytes of output from which stores go past the caches.
const PAST_THE_CACHES: usize = 32 << 20;
