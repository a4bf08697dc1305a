//! The folder of the cache on systems without the owners and modes of Unix, where a user's own
//! folders are closed to others by default.

use std::collections::hash_map::RandomState;
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub(super) struct OwnFolder(PathBuf);

impl OwnFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// `NotFound` if it does not exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path.is_dir() { Ok(Self(path.into())) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Opens a folder, which is made, with its parents, if it does not exist.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self(path.into()))
    }

    /// Reads at most `most` bytes of a regular file.
    ///
    /// # Errors
    /// Those of the file system, and if it is not such a file.
    pub fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        read_shipped(&self.0.join(name), most)
    }

    /// Writes a file, which appears as a whole or not at all and replaces the one of its name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn replace(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let random = RandomState::new().build_hasher().finish();
        let temporary = self.0.join(format!(".{random:016x}.tmp"));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            for part in parts {
                file.write_all(part)?;
            }
            file.sync_all()?;
            std::fs::rename(&temporary, self.0.join(name))
        })();
        if written.is_err() {
            // The incomplete file is useless. If it cannot be removed either, the first error is
            // the one to report.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}

/// Reads at most `most` bytes of a regular file of the package.
pub(super) fn read_shipped(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
