//! Token corpora as datatrove writes them: every `*.ds` of a folder, sorted by name, as one text.
//!
//! `NAME.ds` holds little-endian ids of 2 or 4 bytes; `NAME.ds.index` the end of every document, in
//! tokens, as little-endian u64; `NAME.ds.metadata` the lines `tokenizer|bytes a token` and
//! `number of tokens`. Nothing is guessed: a missing or disagreeing file is an error.

mod files;

use std::path::Path;

use self::files::{Metadata, beside, documents, token_files};
use crate::map::Map;
use crate::tokens::Token;
use crate::{Error, Result};

/// Bytes of one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Ids below 2^16.
    Two,
    /// Ids below 2^32.
    Four,
}

impl Width {
    fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// One `.ds` file.
#[derive(Debug)]
struct Shard {
    map: Map,
    width: Width,
    /// Tokens in all shards up to the end of this one.
    end: usize,
}

/// A folder of token files, mapped.
#[derive(Debug)]
pub struct Corpus {
    shards: Vec<Shard>,
    documents: u64,
    tokenizer: String,
}

/// An id type that a gather can write.
pub trait Gathered: Token {
    /// Narrows an id that was read; the caller has checked [`Corpus::width`].
    fn narrow(id: u32) -> Self;
}

impl Gathered for u16 {
    #[inline]
    fn narrow(id: u32) -> Self {
        id as Self
    }
}

impl Gathered for u32 {
    #[inline]
    fn narrow(id: u32) -> Self {
        id
    }
}

impl Corpus {
    /// Opens every `*.ds` file of a folder.
    ///
    /// # Errors
    /// No folder, no token file, a file without its index or metadata, or lengths that disagree.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut corpus = Self { shards: Vec::new(), documents: 0, tokenizer: String::new() };
        let mut end = 0;
        for path in token_files(folder)? {
            let metadata = Metadata::read(&beside(&path, "metadata"))?;
            let map = Map::open(&path)?;
            let bytes = map.bytes().len();
            if bytes != metadata.tokens.saturating_mul(metadata.width.bytes()) {
                return Err(Error::Format(format!(
                    "{} has {bytes} bytes, but its metadata promises {} tokens of {} bytes: the file is \
                     damaged or was not finished, make it again",
                    path.display(),
                    metadata.tokens,
                    metadata.width.bytes()
                )));
            }
            corpus.documents += documents(&beside(&path, "index"), metadata.tokens)?;
            end += metadata.tokens;
            if corpus.shards.is_empty() {
                corpus.tokenizer = metadata.tokenizer;
            } else if corpus.tokenizer != metadata.tokenizer {
                return Err(Error::Format(format!(
                    "{} was made with the tokenizer {:?}, the files before it with {:?}: a corpus has one",
                    path.display(),
                    metadata.tokenizer,
                    corpus.tokenizer
                )));
            }
            corpus.shards.push(Shard { map, width: metadata.width, end });
        }
        if end == 0 {
            return Err(Error::Format(format!("the corpus {} has no tokens", folder.display())));
        }
        Ok(corpus)
    }

    /// Tokens in all files.
    pub fn tokens(&self) -> usize {
        self.shards.last().map_or(0, |shard| shard.end)
    }

    /// Documents in all files.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// What the metadata calls the tokenizer.
    pub fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    /// The width that holds the ids of every file.
    pub fn width(&self) -> Width {
        let wide = self.shards.iter().any(|shard| shard.width == Width::Four);
        if wide { Width::Four } else { Width::Two }
    }

    /// Copies tokens `start..start + out.len()` of the whole text.
    ///
    /// # Errors
    /// A range that leaves the corpus.
    pub fn read<T: Gathered>(&self, start: usize, out: &mut [T]) -> Result<()> {
        if start.checked_add(out.len()).is_none_or(|end| end > self.tokens()) {
            return Err(Error::Shape(format!(
                "tokens {start} to {start} + {} leave the corpus of {} tokens",
                out.len(),
                self.tokens()
            )));
        }
        let mut index = self.shards.partition_point(|shard| shard.end <= start);
        let (mut from, mut out) = (start, out);
        while !out.is_empty() {
            let shard = &self.shards[index];
            let first = if index == 0 { 0 } else { self.shards[index - 1].end };
            let count = out.len().min(shard.end - from);
            let (now, later) = out.split_at_mut(count);
            let width = shard.width.bytes();
            let bytes = &shard.map.bytes()[(from - first) * width..][..count * width];
            match shard.width {
                Width::Two => decode(bytes, now, |b| u16::from_le_bytes(b).into()),
                Width::Four => decode(bytes, now, u32::from_le_bytes),
            }
            (from, out, index) = (from + count, later, index + 1);
        }
        Ok(())
    }
}

fn decode<T: Gathered, const N: usize>(bytes: &[u8], out: &mut [T], read: impl Fn([u8; N]) -> u32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = T::narrow(read(*bytes));
    }
}
