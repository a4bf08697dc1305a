//! The index of a file: where items end, and which items end a document.

use crate::map::Map;

/// An entry of an index: a document (datatrove), a sequence (Megatron-LM) or a sentence (fairseq).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The token of the file at which it ends.
    pub end: u64,
    /// The number of its tokens.
    pub length: u64,
    /// Whether a document ends with this item.
    pub closes: bool,
    /// Whether it only marks the end of a document (fairseq's empty line).
    pub separator: bool,
}

/// The layout of an index, with offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layout {
    /// u64 ends, in tokens.
    Ends,
    /// i32 lengths at 26, then i64 pointers in bytes, and no document table.
    Sentences { token_bytes: u64 },
    /// i32 lengths at 34, then i64 pointers, then the i64 document table of `table` entries.
    Sequences { token_bytes: u64, table: usize },
}

/// A checked index.
#[derive(Debug)]
pub(super) struct Index {
    map: Map,
    layout: Layout,
    count: usize,
    documents: u64,
}

impl Index {
    /// Takes an index whose size matches `count`; its contents are not checked yet.
    pub(super) fn new(map: Map, layout: Layout, count: usize) -> Self {
        Self { map, layout, count, documents: 0 }
    }

    /// Sets the number of documents, after the entries were checked.
    pub(super) fn with_documents(self) -> Self {
        let documents = match self.layout {
            Layout::Ends => self.count as u64,
            Layout::Sequences { table, .. } => table as u64 - 1,
            Layout::Sentences { .. } => self.items(0).filter(|item| item.closes).count() as u64,
        };
        Self { documents, ..self }
    }

    pub(super) fn documents(&self) -> u64 {
        self.documents
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.map.bytes()[at..][..8].try_into().expect("eight bytes"))
    }

    fn header(&self) -> usize {
        match self.layout {
            Layout::Ends => 0,
            Layout::Sentences { .. } => 26,
            Layout::Sequences { .. } => 34,
        }
    }

    /// The stored length of entry `i`; not for [`Layout::Ends`].
    pub(super) fn length(&self, i: usize) -> i32 {
        let at = self.header() + 4 * i;
        i32::from_le_bytes(self.map.bytes()[at..][..4].try_into().expect("four bytes"))
    }

    /// The stored pointer of entry `i`; not for [`Layout::Ends`].
    pub(super) fn pointer(&self, i: usize) -> i64 {
        self.word(self.header() + 4 * self.count + 8 * i) as i64
    }

    /// Entry `i` of the document table; only for [`Layout::Sequences`].
    pub(super) fn document(&self, i: usize) -> i64 {
        self.word(self.header() + 12 * self.count + 8 * i) as i64
    }

    /// The token at which entry `i` ends.
    pub(super) fn end(&self, i: usize) -> u64 {
        match self.layout {
            Layout::Ends => self.word(8 * i),
            Layout::Sentences { token_bytes } | Layout::Sequences { token_bytes, .. } => {
                self.pointer(i) as u64 / token_bytes + self.length(i) as u64
            }
        }
    }

    /// Finds the first entry that ends after token `token`.
    pub(super) fn find(&self, token: u64) -> usize {
        partition(self.count, |i| self.end(i) <= token)
    }

    /// Iterates over the entries, starting with number `first`.
    pub(super) fn items(&self, first: usize) -> impl Iterator<Item = Item> {
        let mut start = if first == 0 { 0 } else { self.end(first - 1) };
        let mut next_document = match self.layout {
            Layout::Sequences { table, .. } => {
                partition(table, |i| self.document(i) <= first as i64)
            }
            _ => 0,
        };
        (first..self.count).map(move |i| {
            let end = self.end(i);
            let length = end - start;
            start = end;
            let separator = matches!(self.layout, Layout::Sentences { .. }) && length == 1;
            let closes = match self.layout {
                Layout::Ends => true,
                // The last sentence of a file ends the last document, even without a separator.
                Layout::Sentences { .. } => separator || i + 1 == self.count,
                Layout::Sequences { table, .. } => {
                    let before = next_document;
                    while next_document < table && self.document(next_document) <= i as i64 + 1 {
                        next_document += 1;
                    }
                    next_document > before
                }
            };
            Item { end, length, closes, separator }
        })
    }
}

/// Returns the first number of `0..count` for which `before` is false.
fn partition(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
