//! The memory map of a token file, which is the only place where the bytes of a file are not
//! copied.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::{Error, Result};

/// A file mapped read-only into memory; an empty file gives an empty slice.
#[derive(Debug)]
pub(crate) struct Map(Option<Mmap>);

impl Map {
    /// Maps the whole file.
    ///
    /// # Errors
    /// The error of the operating system, with the path.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let context = |e| Error::io(format!("cannot map {}", path.display()), e);
        let file = File::open(path).map_err(context)?;
        let metadata = file.metadata().map_err(context)?;
        if !metadata.is_file() {
            return Err(Error::Format(format!("{} is not a regular file", path.display())));
        }
        if metadata.len() == 0 {
            // mmap reports an error for an empty mapping.
            return Ok(Self(None));
        }
        // SAFETY: token files are written once, by a rename, and not changed in place.
        // `TokenCorpus` documents the condition that nobody truncates or writes a file while it is
        // read.
        let map = unsafe { Mmap::map(&file) }.map_err(context)?;
        Ok(Self(Some(map)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or(&[])
    }
}
