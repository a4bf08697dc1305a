//! The memory map of a token file, which is the only place where the bytes of a file are not
//! copied.
#![allow(unsafe_code)]

use std::path::Path;

use memmap2::Mmap;

use crate::shown::shown_path;
use crate::{Error, Result, regular};

/// A file mapped read-only into memory; an empty file gives an empty slice.
#[derive(Debug)]
pub(crate) struct Map(Option<Mmap>);

impl Map {
    /// Maps the whole file.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not a regular file, else the error of the operating system, with
    /// the path.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (file, size) = regular::open(path, "map")?;
        if size == 0 {
            // mmap reports an error for an empty mapping.
            return Ok(Self(None));
        }
        // SAFETY: a mapping is sound as long as nobody changes the file: a `&[u8]` promises bytes
        // that stay as they are. What we do for that: the mapping is private and read-only, `file`
        // is a regular file (a device may change by itself), `prepare` writes token files under
        // another name, renames them, and never changes them in place, so that a corpus that is made
        // again gets other files while this one keeps its own. What rests on the user, as
        // `TokenCorpus` and SECURITY.md say: that no other program writes to the file or shortens
        // it. If one does, then no index that was checked when the corpus was opened is relied on
        // for a bound: every access to the bytes is checked against the length of the mapping, a
        // changed byte is at worst a wrong id or an error. A page that was cut off ends the process
        // with SIGBUS, which no check before the access can exclude.
        let map = unsafe { Mmap::map(&file) }
            .map_err(|error| Error::io(format!("cannot map {}", shown_path(path)), error))?;
        Ok(Self(Some(map)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
