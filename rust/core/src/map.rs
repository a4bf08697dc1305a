//! The memory map of a token file: the one place where a file's bytes are not copied.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// A read-only file in memory; an empty file is an empty slice.
#[derive(Debug)]
pub(crate) struct Map(Option<Mmap>);

impl Map {
    /// Maps the whole file.
    ///
    /// # Errors
    /// The system's error, with the path.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let context = |e| Error::io(format!("cannot map {}", path.display()), e);
        let file = File::open(path).map_err(context)?;
        let metadata = file.metadata().map_err(context)?;
        if !metadata.is_file() {
            return Err(Error::Format(format!("{} is not a regular file", path.display())));
        }
        if metadata.len() == 0 {
            // An empty mapping is an error of mmap.
            return Ok(Self(None));
        }
        // SAFETY: token files are written once, by a rename, and not changed in place; that nobody
        // truncates or writes one while it is read is a documented condition of `TokenCorpus`.
        let map = unsafe { Mmap::map(&file) }.map_err(context)?;
        Ok(Self(Some(map)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
