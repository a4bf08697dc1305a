//! The pairs `NAME.bin` and `NAME.idx` of Megatron-LM and fairseq (`MMapIndexedDataset`).
//!
//! Both kinds of index start with the magic `MMIDIDX\0\0`, the u64 version 1 and a u8 code for the
//! type of ids. fairseq continues with a u64 count, i32 lengths and i64 pointers; Megatron-LM with
//! a u64 count, the u64 size of the document table, i32 lengths, i64 pointers and the i64 table.
//! The length of the file determines its kind, because `26 + 12 count` bytes are never
//! `34 + 12 count + 8 table`.

use std::path::Path;

use super::files::beside;
use super::index::{Index, Layout};
use super::stored::Stored;
use crate::map::Map;
use crate::shown::shown_path;
use crate::{Error, Result};

/// A result whose error is the end of a sentence that starts with the path of the index.
type Checked<T> = std::result::Result<T, String>;

const MAGIC: &[u8] = b"MMIDIDX\0\0";
/// The magic of fairseq's older index.
const OLD_MAGIC: &[u8] = b"TNTIDX\0\0";
/// The magic of fairseq's index of Huffman codes.
const HUFFMAN_MAGIC: &[u8] = b"HUFFIDX\0\0";

/// Opens one pair.
pub(super) fn open(prefix: &Path) -> Result<(Map, Stored, Index)> {
    let path = beside(prefix, ".idx");
    let damaged = |reason: String| Error::Format(format!("{} {reason}", shown_path(&path)));
    let map = Map::open(&path)?;
    let header = Header::read(map.bytes()).map_err(damaged)?;
    let (stored, count) = (header.stored, header.count);
    let index = Index::new(map, header.layout, count);
    let tokens = Map::open(&beside(prefix, ".bin"))?;
    check_entries(&index, count, stored.bytes() as i64, tokens.bytes().len()).map_err(damaged)?;
    if let Layout::Sequences { table, .. } = header.layout {
        check_documents(&index, table, count).map_err(damaged)?;
    }
    Ok((tokens, stored, index.with_documents()))
}

struct Header {
    stored: Stored,
    count: usize,
    layout: Layout,
}

impl Header {
    fn read(bytes: &[u8]) -> Checked<Self> {
        if bytes.starts_with(OLD_MAGIC) || bytes.starts_with(HUFFMAN_MAGIC) {
            return Err(
                "is an index in fairseq's older or Huffman format (TNTIDX, HUFFIDX), expected \
                        MMIDIDX: create it again with --dataset-impl mmap"
                    .into(),
            );
        }
        if !bytes.starts_with(MAGIC) {
            return Err(
                "does not start with MMIDIDX: it is not an index of Megatron-LM or fairseq".into(),
            );
        }
        let size = bytes.len();
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let (Some(version), Some(code), Some(count)) = (word(9), bytes.get(17), word(18)) else {
            return Err(format!("has {size} bytes, expected at least the 26 of its header"));
        };
        if version != 1 {
            return Err(format!("has version {version}, expected 1"));
        }
        let fairseq = u128::from(count) * 12 + 26;
        let megatron =
            word(26).map(|table| (table, u128::from(count) * 12 + 34 + u128::from(table) * 8));
        let stored = stored(*code, size as u128 == fairseq)?;
        let token_bytes = stored.bytes() as u64;
        if size as u128 == fairseq {
            return Ok(Self {
                stored,
                count: count as usize,
                layout: Layout::Sentences { token_bytes },
            });
        }
        match megatron {
            Some((table, expected)) if size as u128 == expected => {
                let layout = Layout::Sequences { token_bytes, table: table as usize };
                Ok(Self { stored, count: count as usize, layout })
            }
            _ => {
                let or = megatron.map_or(String::new(), |(table, expected)| {
                    format!(", or {expected} for Megatron-LM with a document table of {table}")
                });
                Err(format!(
                    "has {size} bytes, but {count} entries take {fairseq} bytes for fairseq{or}: the file is \
                     damaged or incomplete, create it again"
                ))
            }
        }
    }
}

/// Returns the type for a code; only fairseq uses 9.
fn stored(code: u8, fairseq: bool) -> Checked<Stored> {
    match code {
        1 => Ok(Stored::U8),
        2 => Ok(Stored::I8),
        3 => Ok(Stored::I16),
        4 => Ok(Stored::I32),
        5 => Ok(Stored::I64),
        8 => Ok(Stored::U16),
        9 if fairseq => Ok(Stored::U32),
        6 | 7 => {
            Err(format!("has ids of type code {code}, which is a float type, expected integers"))
        }
        _ => Err(format!(
            "has ids of type code {code}, expected 1, 2, 3, 4, 5 or 8, or 9 for fairseq"
        )),
    }
}

/// Checks that every entry starts where the one before it ends, and that the last ends with the
/// tokens.
fn check_entries(index: &Index, count: usize, width: i64, bytes: usize) -> Checked<()> {
    let mut end = 0;
    for entry in 0..count {
        let (length, pointer) = (index.length(entry), index.pointer(entry));
        if length < 0 {
            return Err(format!("gives entry {entry} a length of {length}, expected 0 or more"));
        }
        if pointer != end {
            return Err(format!(
                "starts entry {entry} at byte {pointer}, expected {end}, where the one before it ends: \
                 entries that overlap or leave gaps are not supported"
            ));
        }
        // An accepted pointer is the sum of the lengths so far, which is below 2^63 while it fits
        // the file.
        end += i64::from(length) * width;
        if end as u64 > bytes as u64 {
            return Err(format!(
                "ends entry {entry} at byte {end}, but the .bin file beside it has {bytes} bytes: one of \
                 the two is damaged or incomplete"
            ));
        }
    }
    if end as u64 != bytes as u64 {
        return Err(format!(
            "ends at byte {end}, but the .bin file beside it has {bytes} bytes: one of the two is damaged \
             or incomplete"
        ));
    }
    Ok(())
}

/// Checks that the table starts at sequence 0, ascends, and ends at the number of sequences.
fn check_documents(index: &Index, table: usize, count: usize) -> Checked<()> {
    if table == 0 {
        return Err("has a document table without entries, expected at least the start at 0".into());
    }
    let mut last = 0;
    for entry in 0..table {
        let sequence = index.document(entry);
        if sequence < last || (entry == 0 && sequence != 0) {
            return Err(format!(
                "has {sequence} as entry {entry} of its document table, expected {}",
                if entry == 0 { "0".into() } else { format!("{last} or more") }
            ));
        }
        last = sequence;
    }
    if last as u64 != count as u64 {
        return Err(format!(
            "ends its document table at sequence {last}, expected its {count} sequences"
        ));
    }
    Ok(())
}
