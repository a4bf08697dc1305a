//! The lengths of mapped files, which are compared before their pages are touched.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use super::Corpus;
use super::files::beside;
use crate::shown::shown_path;
use crate::{Error, Result, memory};

/// With at most so many files, all of them are looked at before indices are read: 1 µs each.
const ALL: usize = 64;

/// A mapped file, as it was when the corpus was opened.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    length: u64,
    identity: (u64, u64),
}

/// Looks at the files of one shard: the tokens and their index.
///
/// # Errors
/// The error of the operating system, with the path.
pub(super) fn watch(path: &Path, suffixes: [&str; 2]) -> Result<[Watched; 2]> {
    let [tokens, index] = suffixes.map(|suffix| beside(path, suffix));
    Ok([Watched::new(tokens)?, Watched::new(index)?])
}

impl Watched {
    fn new(path: PathBuf) -> Result<Self> {
        let metadata = fs::metadata(&path)
            .map_err(|e| Error::io(format!("cannot look at {}", shown_path(&path)), e))?;
        Ok(Self { path, length: metadata.len(), identity: identity(&metadata) })
    }

    /// Checks that the file is as long as it was. One that was removed or replaced is not looked
    /// at: the mapping keeps the file that it is of.
    fn check(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Ok(now) if identity(&now) == self.identity && now.len() != self.length => {
                Err(Error::Format(format!(
                    "{} has {} bytes, but had {} when the corpus was opened: open the corpus again, and \
                     change no file of an open one",
                    shown_path(&self.path),
                    now.len(),
                    self.length
                )))
            }
            _ => Ok(()),
        }
    }
}

impl Corpus {
    /// Checks the files of the rows `[starts[r], ends[r])`, which are inside the corpus.
    ///
    /// A file that is cut off between this check and the access still ends the process with SIGBUS.
    ///
    /// # Errors
    /// If one of them has another length than when it was opened.
    pub(super) fn check_lengths(&self, starts: &[i64], ends: &[i64]) -> Result<()> {
        let mut seen = memory::filled(self.shards.len(), || false)?;
        for (start, end) in starts.iter().zip(ends) {
            let first = self.shards.partition_point(|shard| shard.end <= *start as usize);
            for (shard, seen) in self.shards.iter().zip(&mut seen).skip(first) {
                if shard.first >= *end as usize {
                    break;
                }
                if !std::mem::replace(seen, true) {
                    shard.watched.iter().try_for_each(Watched::check)?;
                }
            }
        }
        Ok(())
    }

    /// Checks every file of a corpus of few files, as [`Self::check_lengths`] does.
    ///
    /// # Errors
    /// If one of them has another length than when it was opened.
    pub(super) fn check_all_lengths(&self) -> Result<()> {
        if self.shards.len() > ALL {
            return Ok(());
        }
        self.shards.iter().flat_map(|shard| &shard.watched).try_for_each(Watched::check)
    }
}

/// The device and number of a file, which one that gets its name later does not have.
#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (u64, u64) {
    (0, 0)
}
