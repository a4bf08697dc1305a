//! How a corpus is cut into blocks. Every block is one contiguous range of the text.

use super::{Corpus, Item};
use crate::order::Order;
use crate::rng::Key;
use crate::{Error, Result};

/// What a block is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMode {
    /// Cuts of equal length, across the ends of items.
    None,
    /// Whole items, as many as fit.
    Complete,
    /// Whole items of one document, as many as fit; separators and blocks of one token are left out.
    CompleteDoc,
    /// One item.
    Eos,
    /// Whole items, as many as fit; longer ones in pieces, so that every token is in one block.
    Pack,
}

/// The blocks of a corpus: nothing for equal cuts, else 12 bytes a block.
#[derive(Debug)]
pub struct Blocks {
    block_size: u64,
    table: Table,
    longest: u64,
}

#[derive(Debug)]
enum Table {
    Cuts { tokens: u64, count: u64 },
    Listed { starts: Vec<u64>, lengths: Vec<u32> },
}

impl Blocks {
    /// Cuts a corpus, in one pass over its indexes.
    ///
    /// `drop_last` leaves out a last cut that is shorter; other modes have no use for it.
    ///
    /// # Errors
    /// A block size of 0, or an item of 2^32 tokens or more that would have to be a block.
    pub fn new(corpus: &Corpus, mode: BlockMode, block_size: u64, drop_last: bool) -> Result<Self> {
        if block_size == 0 {
            return Err(Error::argument("block_size", 0, "1 or more tokens"));
        }
        if mode == BlockMode::None {
            let tokens = corpus.tokens() as u64;
            let count = if drop_last { tokens / block_size } else { tokens.div_ceil(block_size) };
            let table = Table::Cuts { tokens, count };
            return Ok(Self { block_size, table, longest: tokens.min(block_size) });
        }
        let mut cutter = Cutter { mode, block_size, ..Cutter::default() };
        for item in corpus.items() {
            cutter.add(item)?;
        }
        cutter.flush()?;
        cutter.starts.shrink_to_fit();
        cutter.lengths.shrink_to_fit();
        let longest = cutter.lengths.iter().copied().max().unwrap_or(0).into();
        let table = Table::Listed { starts: cutter.starts, lengths: cutter.lengths };
        Ok(Self { block_size, table, longest })
    }

    /// Number of blocks.
    pub fn count(&self) -> u64 {
        match &self.table {
            Table::Cuts { count, .. } => *count,
            Table::Listed { starts, .. } => starts.len() as u64,
        }
    }

    /// Whether any block is longer than the block size, and is cropped as it is read.
    pub fn crops(&self) -> bool {
        self.longest > self.block_size
    }

    /// Start and end of a block. Of a longer one, a window of the block size, which starts anywhere
    /// from its first token to the last that leaves a whole window.
    pub fn range(&self, block: u64, crop: Key) -> (u64, u64) {
        let (start, length) = match &self.table {
            Table::Cuts { tokens, .. } => {
                let start = block * self.block_size;
                (start, (tokens - start).min(self.block_size))
            }
            Table::Listed { starts, lengths } => {
                (starts[block as usize], lengths[block as usize].into())
            }
        };
        match length.checked_sub(self.block_size) {
            None | Some(0) => (start, start + length),
            Some(excess) => {
                let offset: u64 = crop.words_from(block, 0).below(excess as u32 + 1).into();
                (start + offset, start + offset + self.block_size)
            }
        }
    }

    /// Block, start and end of several indices of an epoch, whose order may be shuffled.
    ///
    /// # Errors
    /// An index outside `0..count`.
    pub fn locate(
        &self,
        indices: &[i64],
        order: Option<&Order>,
        crop: Key,
        out: [&mut [i64]; 3],
    ) -> Result<()> {
        let [blocks, starts, ends] = out;
        for (row, &index) in indices.iter().enumerate() {
            let index = u64::try_from(index).ok().filter(|index| *index < self.count());
            let index = index.ok_or_else(|| {
                Error::Shape(format!(
                    "block {} of a corpus of {} blocks",
                    indices[row],
                    self.count()
                ))
            })?;
            let block = order.map_or(index, |order| order.get(index));
            let (start, end) = self.range(block, crop);
            (blocks[row], starts[row], ends[row]) = (block as i64, start as i64, end as i64);
        }
        Ok(())
    }
}

/// A block that is being filled, and those before it.
struct Cutter {
    mode: BlockMode,
    block_size: u64,
    start: u64,
    length: u64,
    starts: Vec<u64>,
    lengths: Vec<u32>,
}

impl Default for Cutter {
    fn default() -> Self {
        let (starts, lengths) = (Vec::new(), Vec::new());
        Self { mode: BlockMode::Eos, block_size: 1, start: 0, length: 0, starts, lengths }
    }
}

impl Cutter {
    fn add(&mut self, item: Item) -> Result<()> {
        let by_document = self.mode == BlockMode::CompleteDoc;
        if by_document && item.separator {
            self.flush()?;
            self.start += item.length;
            return Ok(());
        }
        // An empty block takes an item of any length.
        if self.length > 0 && self.length + item.length > self.block_size {
            self.flush()?;
        }
        self.length += item.length;
        if self.mode == BlockMode::Pack {
            while self.length > self.block_size {
                let rest = self.length - self.block_size;
                self.length = self.block_size;
                self.flush()?;
                self.length = rest;
            }
        }
        if self.mode == BlockMode::Eos || (by_document && item.closes) {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the block.
    fn flush(&mut self) -> Result<()> {
        let least = if self.mode == BlockMode::CompleteDoc { 2 } else { 1 };
        if self.length >= least {
            // One below the largest, so that the number of places to crop at fits 32 bits too.
            let length = u32::try_from(self.length).ok().filter(|length| *length < u32::MAX);
            self.lengths.push(length.ok_or_else(|| {
                Error::Format(format!(
                    "the item at token {} has {} tokens, expected fewer than {}: use blocks=\"pack\", which \
                     reads long items in pieces",
                    self.start,
                    self.length,
                    u32::MAX
                ))
            })?);
            self.starts.push(self.start);
        }
        self.start += self.length;
        self.length = 0;
        Ok(())
    }
}
