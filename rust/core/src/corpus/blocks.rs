//! Cuts a corpus into blocks. Every block is one contiguous range of the text.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Corpus, Item};
use crate::order::Order;
use crate::rng::Key;
use crate::{Error, Result, memory};

/// The contents of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMode {
    /// Ranges of equal length, across the ends of items.
    None,
    /// As many whole items as fit.
    Complete,
    /// As many whole items of one document as fit; separators and blocks of one token are left out.
    CompleteDoc,
    /// One item.
    Eos,
    /// As many whole items as fit; longer items are split, so that every token is in exactly one block.
    Pack,
}

/// Number of blocks between two stored starts. Memory is half a byte per block, and finding a block takes
/// cutting at most this many blocks again.
const STRIDE: u64 = 16;

/// The blocks of a corpus.
#[derive(Debug)]
pub struct Blocks {
    corpus: Arc<Corpus>,
    mode: BlockMode,
    block_size: u64,
    count: u64,
    longest: u64,
    /// The first tokens of blocks 0, 16, 32, ...; empty for ranges of equal length.
    starts: Vec<u64>,
}

impl Blocks {
    /// Cuts a corpus, in one pass over its indexes.
    ///
    /// `drop_last` leaves out a shorter range at the end; only [`BlockMode::None`] uses it.
    ///
    /// # Errors
    /// If the block size is 0, or an item of 2^32 tokens or more would have to be one block.
    pub fn new(
        corpus: Arc<Corpus>,
        mode: BlockMode,
        block_size: u64,
        drop_last: bool,
    ) -> Result<Self> {
        if block_size == 0 {
            return Err(Error::argument("block_size", 0, "1 or more tokens"));
        }
        let (mut count, mut longest, mut starts) = (0, 0, Vec::new());
        if mode == BlockMode::None {
            let tokens = corpus.tokens() as u64;
            count = if drop_last { tokens / block_size } else { tokens.div_ceil(block_size) };
            longest = tokens.min(block_size);
        } else {
            let mut fits = Ok(());
            cut(&corpus, mode, block_size, 0, |start, length| {
                if count % STRIDE == 0 {
                    fits = memory::push(&mut starts, start);
                    if fits.is_err() {
                        return ControlFlow::Break(());
                    }
                }
                count += 1;
                longest = longest.max(length);
                ControlFlow::Continue(())
            });
            fits?;
        }
        // The offset of a window is drawn with 32 bits.
        if longest.saturating_sub(block_size) >= u64::from(u32::MAX) {
            return Err(Error::Format(format!(
                "an item has {longest} tokens, expected fewer than {} beyond block_size {block_size}: \
                 use blocks=\"pack\", which reads long items in pieces",
                u32::MAX
            )));
        }
        Ok(Self { corpus, mode, block_size, count, longest, starts })
    }

    /// Number of blocks.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether any block is longer than the block size, and so is cropped when it is read.
    pub fn crops(&self) -> bool {
        self.longest > self.block_size
    }

    /// Returns the start and length of a block before it is cropped; its number must be below the count.
    fn whole(&self, block: u64) -> (u64, u64) {
        if self.mode == BlockMode::None {
            let start = block * self.block_size;
            return (start, (self.corpus.tokens() as u64 - start).min(self.block_size));
        }
        let from = self.starts[(block / STRIDE) as usize];
        let (mut found, mut before) = ((from, 0), block % STRIDE);
        cut(&self.corpus, self.mode, self.block_size, from, |start, length| {
            if before == 0 {
                found = (start, length);
                return ControlFlow::Break(());
            }
            before -= 1;
            ControlFlow::Continue(())
        });
        found
    }

    /// Returns the start and end of a block, whose number must be below the count. A block that is longer than
    /// the block size is cropped to a window of that size, which may start at any token that leaves a whole
    /// window.
    pub fn range(&self, block: u64, crop: Key) -> (u64, u64) {
        let (start, length) = self.whole(block);
        match length.checked_sub(self.block_size) {
            None | Some(0) => (start, start + length),
            Some(excess) => {
                let offset: u64 = crop.words_from(block, 0).below(excess as u32 + 1).into();
                (start + offset, start + offset + self.block_size)
            }
        }
    }

    /// Writes the block, start and end of several indices of an epoch, whose order may be shuffled.
    ///
    /// # Errors
    /// If an index is outside `0..count`, or a file of the corpus was cut off.
    pub fn locate(
        &self,
        indices: &[i64],
        order: Option<&Order>,
        crop: Key,
        out: [&mut [i64]; 3],
    ) -> Result<()> {
        let [blocks, starts, ends] = out;
        if let Some(index) =
            indices.iter().find(|i| !(0..self.count() as i128).contains(&(**i).into()))
        {
            let count = self.count();
            return Err(Error::Shape(format!(
                "the index of a block is {index}, expected 0 or more and below the {count} blocks of the corpus"
            )));
        }
        self.corpus.check_all_lengths()?;
        let mut places = memory::collect(indices.iter().map(|index| *index as u64))?;
        if let Some(order) = order {
            order.get_all(&mut places)?;
        }
        for (row, block) in places.into_iter().enumerate() {
            let (start, end) = self.range(block, crop);
            (blocks[row], starts[row], ends[row]) = (block as i64, start as i64, end as i64);
        }
        Ok(())
    }
}

/// Emits the start and length of every block from token `from` on, at which a block must start.
///
/// Every block starts at an item, or a whole number of blocks into a long item, so cutting can resume at any
/// block with the same result.
fn cut(
    corpus: &Corpus,
    mode: BlockMode,
    block_size: u64,
    from: u64,
    emit: impl FnMut(u64, u64) -> ControlFlow<()>,
) {
    let mut cutter = Cutter { mode, block_size, start: from, length: 0, emit };
    if corpus.items_from(from).try_for_each(|item| cutter.add(item)).is_continue() {
        // This is the last block, so it does not matter whether `emit` wants to continue.
        let _ = cutter.flush();
    }
}

/// A block that is being filled.
struct Cutter<F> {
    mode: BlockMode,
    block_size: u64,
    start: u64,
    length: u64,
    emit: F,
}

impl<F: FnMut(u64, u64) -> ControlFlow<()>> Cutter<F> {
    fn add(&mut self, item: Item) -> ControlFlow<()> {
        let by_document = self.mode == BlockMode::CompleteDoc;
        if by_document && item.separator {
            self.flush()?;
            self.start += item.length;
            return ControlFlow::Continue(());
        }
        // An empty block takes an item of any length.
        if self.length > 0 && self.length + item.length > self.block_size {
            self.flush()?;
        }
        self.length += item.length;
        while self.mode == BlockMode::Pack && self.length > self.block_size {
            let rest = self.length - self.block_size;
            self.length = self.block_size;
            self.flush()?;
            self.length = rest;
        }
        if self.mode == BlockMode::Eos || (by_document && item.closes) {
            self.flush()?;
        }
        ControlFlow::Continue(())
    }

    /// Ends the block and emits it.
    fn flush(&mut self) -> ControlFlow<()> {
        let (start, length) = (self.start, self.length);
        (self.start, self.length) = (start + length, 0);
        let least = if self.mode == BlockMode::CompleteDoc { 2 } else { 1 };
        if length >= least { (self.emit)(start, length) } else { ControlFlow::Continue(()) }
    }
}
