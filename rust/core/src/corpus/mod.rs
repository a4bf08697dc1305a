//! Memory-mapped token corpora: one text made of the files of datatrove, or of the pairs of files that
//! Megatron-LM and fairseq write.
//!
//! Nothing is guessed: opening a corpus fails if a file is missing or two files disagree. The contents of an
//! index are checked at that time in one pass; ids are checked when they are read.

pub mod blocks;
mod datatrove;
mod files;
mod index;
mod indexed;
mod stored;
mod views;
mod watched;

use std::path::Path;

use self::files::Found;
use self::index::Index;
pub use self::index::Item;
pub use self::stored::{Gathered, Width};
use self::stored::{Stored, read_ids};
use self::watched::Watched;
use crate::interrupt::point;
use crate::map::Map;
use crate::shown::shown_path;
use crate::{Error, Result};

/// The most tokens that are copied between two chances to interrupt the call.
const PIECE: usize = 1 << 20;

/// One file of tokens and the index of its items.
#[derive(Debug)]
struct Shard {
    map: Map,
    stored: Stored,
    index: Index,
    watched: [Watched; 2],
    /// Number of tokens in all shards before this one, and up to the end of this one.
    first: usize,
    end: usize,
    /// The name of the file, for error messages.
    name: String,
}

/// Memory-mapped token files as one text.
#[derive(Debug)]
pub struct Corpus {
    shards: Vec<Shard>,
    documents: u64,
    tokenizer: String,
}

impl Corpus {
    /// Opens a folder (every `*.ds`, or every `*.idx` with its `*.bin`, sorted by name), or one pair `NAME.bin`
    /// and `NAME.idx`, given by the prefix `NAME` or by either file name.
    ///
    /// # Errors
    /// If a file does not exist, files disagree, an index is damaged, or the corpus has no tokens.
    pub fn open(path: &Path) -> Result<Self> {
        let mut corpus = Self { shards: Vec::new(), documents: 0, tokenizer: "unknown".into() };
        match files::find(path)? {
            Found::Datatrove(paths) => {
                for path in paths {
                    let (map, index, metadata) = datatrove::open(&path)?;
                    corpus.name_tokenizer(&path, metadata.tokenizer)?;
                    let watched = watched::watch(&path, ["", ".index"])?;
                    corpus.add(&path, map, metadata.stored, index, watched);
                }
            }
            Found::Indexed(prefixes) => {
                for prefix in prefixes {
                    let (map, stored, index) = indexed::open(&prefix)?;
                    let watched = watched::watch(&prefix, [".bin", ".idx"])?;
                    corpus.add(&prefix, map, stored, index, watched);
                }
            }
        }
        if corpus.tokens() == 0 {
            return Err(Error::Format(format!("the corpus {} has no tokens", shown_path(path))));
        }
        Ok(corpus)
    }

    /// Checks that all files of a corpus name the same tokenizer.
    fn name_tokenizer(&mut self, path: &Path, tokenizer: String) -> Result<()> {
        if !self.shards.is_empty() && self.tokenizer != tokenizer {
            return Err(Error::Format(format!(
                "{} was made with the tokenizer {tokenizer:?}, but the files before it with {:?}: all files \
                 of a corpus must have the same tokenizer",
                shown_path(path),
                self.tokenizer
            )));
        }
        self.tokenizer = tokenizer;
        Ok(())
    }

    fn add(&mut self, path: &Path, map: Map, stored: Stored, index: Index, watched: [Watched; 2]) {
        let first = self.tokens();
        let end = first + map.bytes().len() / stored.bytes();
        self.documents += index.documents();
        let name = shown_path(path);
        self.shards.push(Shard { map, stored, index, watched, first, end, name });
    }

    /// Number of tokens in all files.
    pub fn tokens(&self) -> usize {
        self.shards.last().map_or(0, |shard| shard.end)
    }

    /// Number of documents in all files.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// The name of the tokenizer in the metadata, or `unknown` if no file names one.
    pub fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    /// The smallest width that holds the ids of every file.
    pub fn width(&self) -> Width {
        let wide = self.shards.iter().any(|shard| shard.stored.width() == Width::Four);
        if wide { Width::Four } else { Width::Two }
    }

    /// Iterates over the items that start at a token, in the order of the text. The first item is the rest of
    /// the item that contains the token.
    pub fn items_from(&self, token: u64) -> impl Iterator<Item = Item> {
        let index = self.shards.partition_point(|shard| shard.end as u64 <= token);
        self.shards[index..].iter().flat_map(move |shard| {
            let local = token.saturating_sub(shard.first as u64);
            let left = move |item: Item| Item { length: item.length.min(item.end - local), ..item };
            shard.index.items(shard.index.find(local)).map(left)
        })
    }

    /// Copies tokens `start..start + out.len()` of the whole text.
    ///
    /// # Errors
    /// If the range leaves the corpus, or an id is negative or needs more than 32 bits.
    pub fn read<T: Gathered>(&self, start: usize, out: &mut [T]) -> Result<()> {
        let mut index = self.shard_of(start, out.len())?;
        let (mut from, mut out) = (start, out);
        while !out.is_empty() {
            let shard = &self.shards[index];
            let count = out.len().min(shard.end - from).min(PIECE);
            point(4 * count)?;
            let (now, later) = out.split_at_mut(count);
            let local = from - shard.first;
            let width = shard.stored.bytes();
            let bytes = &shard.map.bytes()[local * width..][..count * width];
            read_ids(shard.stored, bytes, now).map_err(|(place, id)| {
                Error::Format(format!(
                    "{} holds id {id} at token {}, expected 0 to {}: the file is damaged, or does not hold \
                     token ids",
                    shard.name,
                    local + place,
                    u32::MAX
                ))
            })?;
            (from, out) = (from + count, later);
            index += usize::from(from == shard.end);
        }
        Ok(())
    }

    /// Borrows tokens `start..start + len` from the map, without a copy.
    ///
    /// Returns `None` if that is impossible: the range leaves the corpus or crosses files, the file stores ids
    /// of a different width than `T` or is not aligned, or an id is negative. [`Self::read`] then copies the
    /// tokens or returns the error.
    pub fn slice<T: Gathered>(&self, start: usize, len: usize) -> Option<&[T]> {
        let shard = &self.shards[self.shard_of(start, len).ok()?];
        if start + len > shard.end {
            return None;
        }
        let width = shard.stored.bytes();
        let bytes = &shard.map.bytes()[(start - shard.first) * width..][..len * width];
        stored::borrow(shard.stored, bytes)
    }

    /// Writes the number of the document of each token in `start..start + out.len()`. The first document of
    /// the range has the number 1.
    ///
    /// # Errors
    /// If the range leaves the corpus.
    pub fn segments(&self, start: usize, out: &mut [i64]) -> Result<()> {
        let mut index = self.shard_of(start, out.len())?;
        let (mut done, mut segment) = (0, 1);
        while done < out.len() {
            let shard = &self.shards[index];
            let local = start + done - shard.first;
            // Documents without tokens are skipped: the number grows only after a token was written.
            let mut written = false;
            for item in shard.index.items(shard.index.find(local as u64)) {
                let upto = (shard.first + item.end as usize - start).min(out.len());
                if upto > done {
                    out[done..upto].fill(segment);
                    (done, written) = (upto, true);
                }
                if item.closes && written {
                    (segment, written) = (segment + 1, false);
                }
                if done == out.len() {
                    break;
                }
            }
            index += 1;
        }
        Ok(())
    }

    /// Checks that a range is inside the corpus, and returns the shard that holds token `start`.
    fn shard_of(&self, start: usize, len: usize) -> Result<usize> {
        if start.checked_add(len).is_none_or(|end| end > self.tokens()) {
            return Err(Error::Shape(format!(
                "tokens {start} to {start} + {len} are outside the corpus of {} tokens",
                self.tokens()
            )));
        }
        // The end of the corpus is not in any shard; an empty range there belongs to the last shard.
        Ok(self.shards.partition_point(|shard| shard.end <= start).min(self.shards.len() - 1))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with the pairs `a`, `b`, ... of one item each, given as type code, bytes per id, and bytes.
    fn folder(name: &str, files: &[(u8, usize, &[u8])]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("metro-fast-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for (number, (code, width, bytes)) in files.iter().enumerate() {
            let mut index = b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0".to_vec();
            index.push(*code);
            index.extend(1u64.to_le_bytes());
            index.extend((bytes.len() as i32 / *width as i32).to_le_bytes());
            index.extend(0i64.to_le_bytes());
            let stem = char::from(b'a' + number as u8);
            fs::write(path.join(format!("{stem}.idx")), index).unwrap();
            fs::write(path.join(format!("{stem}.bin")), bytes).unwrap();
        }
        path
    }

    #[test]
    fn slices_are_borrowed_where_the_file_stores_the_type() {
        let narrow: Vec<u8> = [5u16, 6, 65_535, 8].iter().flat_map(|id| id.to_le_bytes()).collect();
        let wide: Vec<u8> = [9i32, 70_000, -1].iter().flat_map(|id| id.to_le_bytes()).collect();
        let path = folder("slices", &[(8, 2, &narrow), (4, 4, &wide), (1, 1, &[1, 2])]);
        let corpus = Corpus::open(&path).unwrap();
        assert_eq!((corpus.tokens(), corpus.width()), (9, Width::Four));
        assert_eq!(corpus.slice::<u16>(1, 3), Some(&[6, 65_535, 8][..]));
        assert_eq!(corpus.slice::<u32>(4, 2), Some(&[9, 70_000][..]));
        assert_eq!(corpus.slice::<u32>(4, 0), Some(&[][..]));
        assert_eq!(corpus.slice::<u32>(9, 0), None, "the last file stores bytes");
        assert_eq!(corpus.slice::<u16>(1, 4), None, "crosses files");
        assert_eq!(corpus.slice::<u32>(0, 2), None, "another width");
        assert_eq!(corpus.slice::<u32>(4, 3), None, "a negative id");
        assert_eq!(corpus.slice::<u16>(7, 1), None, "bytes");
        for (start, len) in [(9, 1), (10, 0), (usize::MAX, 2), (0, usize::MAX)] {
            assert_eq!(corpus.slice::<u32>(start, len), None);
        }
        let mut row = [0u32; 3];
        corpus.read(3, &mut row).unwrap();
        assert_eq!(row, [8, 9, 70_000]);
        let message = corpus.read(4, &mut row).unwrap_err().to_string();
        assert!(message.contains("holds id -1 at token 2"), "{message}");
        fs::remove_dir_all(path).unwrap();
    }
}
