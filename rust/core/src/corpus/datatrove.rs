//! The three files of datatrove: `NAME.ds` with ids of 2 or 4 bytes, `NAME.ds.index` with the ends
//! (in tokens, u64) of all documents, and `NAME.ds.metadata`, whose first line is the tokenizer, a
//! `|` and the bytes per token, and whose second line is the number of tokens.

use std::io::Read;
use std::path::Path;

use super::files::beside;
use super::index::{Index, Layout};
use super::stored::Stored;
use crate::interrupt::Pace;
use crate::map::Map;
use crate::shown::shown_path;
use crate::{Error, Result, regular};

/// The contents of a `.metadata` file.
pub(super) struct Metadata {
    pub(super) tokenizer: String,
    pub(super) stored: Stored,
    pub(super) tokens: usize,
}

/// Opens one token file with its index and its metadata.
pub(super) fn open(path: &Path) -> Result<(Map, Index, Metadata)> {
    let metadata = Metadata::read(&beside(path, ".metadata"))?;
    let map = Map::open(path)?;
    let (bytes, width) = (map.bytes().len(), metadata.stored.bytes());
    if bytes != metadata.tokens.saturating_mul(width) {
        return Err(Error::Format(format!(
            "{} has {bytes} bytes, but its metadata says {} tokens of {width} bytes: the file is \
             damaged or incomplete, create it again",
            shown_path(path),
            metadata.tokens,
        )));
    }
    let index = read_index(&beside(path, ".index"), metadata.tokens)?;
    Ok((map, index, metadata))
}

/// The most bytes that are read from a metadata file, which has three short lines.
const MAX_METADATA: u64 = 1 << 16;

impl Metadata {
    fn read(path: &Path) -> Result<Self> {
        let context = |e| {
            let about = "it says how many bytes a token has";
            Error::io(format!("cannot read {} ({about})", shown_path(path)), e)
        };
        let mut text = Vec::new();
        let (file, _) = regular::open_or(path, context)?;
        file.take(MAX_METADATA).read_to_end(&mut text).map_err(context)?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        let (tokenizer, width) =
            lines.next().and_then(|line| line.rsplit_once('|')).ok_or_else(|| {
                Error::Format(format!(
                    "{} does not start with `TOKENIZER|BYTES`, where BYTES is the bytes per token",
                    shown_path(path)
                ))
            })?;
        let stored = match width.trim() {
            "2" => Stored::U16,
            "4" => Stored::U32,
            other => {
                return Err(Error::Format(format!(
                    "{} says that a token has {other:?} bytes, expected 2 or 4",
                    shown_path(path)
                )));
            }
        };
        let tokens = lines.next().and_then(|line| line.trim().parse().ok()).ok_or_else(|| {
            Error::Format(format!(
                "{} does not have the number of tokens in its second line",
                shown_path(path)
            ))
        })?;
        Ok(Self { tokenizer: tokenizer.into(), stored, tokens })
    }
}

/// Maps the ends of documents, and checks that they ascend and that the last is the number of
/// tokens.
fn read_index(path: &Path, tokens: usize) -> Result<Index> {
    let map = Map::open(path)?;
    let bytes = map.bytes().len();
    if bytes % 8 != 0 {
        return Err(Error::Format(format!(
            "{} has {bytes} bytes, expected 8 for every document",
            shown_path(path)
        )));
    }
    let count = bytes / 8;
    let index = Index::new(map, Layout::Ends, count);
    let mut last = 0;
    let mut pace = Pace::default();
    for document in 0..count {
        pace.step(8)?;
        let end = index.end(document);
        if end < last {
            return Err(Error::Format(format!(
                "{} ends document {document} at token {end}, before its start at token {last}: the index \
                 is damaged, create it again",
                shown_path(path)
            )));
        }
        last = end;
    }
    if last != tokens as u64 {
        return Err(Error::Format(format!(
            "{} ends at token {last}, but the metadata says {tokens} tokens",
            shown_path(path)
        )));
    }
    Ok(index.with_documents())
}
