//! A folder that no other user can write to, and files in it that are read and written whole.
//!
//! Machine code from the cache runs on the device with the rights of the user. So the folder is
//! opened once, without following a link, and checked; files are then opened relative to it, which
//! leaves no moment at which another user can put something else in their place.

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, open, openat, renameat, unlinkat};
use rustix::process::geteuid;

/// Bits of a mode that let a group or everyone write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Temporary files that are older were left by a process that died: compiling takes half a second.
const LEFT: Duration = Duration::from_hours(1);

pub(super) struct OwnFolder(OwnedFd);

impl OwnFolder {
    /// Opens a folder.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; otherwise a sentence's end that says why it is not used.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match open(path, flags, Mode::empty()) {
            Ok(folder) => File::from(folder),
            Err(_) if path.is_symlink() => {
                return Err(refused("it is a link, which is not followed"));
            }
            Err(error) => return Err(error.into()),
        };
        check_owner(&folder)?;
        Ok(Self(folder.into()))
    }

    /// Opens a folder, which is made, with its parents, if it does not exist.
    ///
    /// # Errors
    /// Those of `open` and of the file system.
    pub fn create(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).or_else(|error| {
            // What is there instead of a folder, `open` describes.
            if path.symlink_metadata().is_ok() { Ok(()) } else { Err(error) }
        })?;
        Self::open(path)
    }

    /// Reads at most `most` bytes of a regular file of this user; a pipe is not waited for.
    ///
    /// # Errors
    /// Those of the file system, and if it is not such a file.
    pub fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(refused("it is not a regular file"));
        }
        check_owner(&file)?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes a file, which appears as a whole or not at all and replaces whatever has its name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn replace(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        self.remove_left()?;
        let temporary = format!(".{:016x}.tmp", RandomState::new().build_hasher().finish());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let written = (|| {
            let mode = Mode::RUSR | Mode::WUSR;
            let mut file = File::from(openat(&self.0, &temporary, flags, mode)?);
            for part in parts {
                file.write_all(part)?;
            }
            file.sync_all()?;
            Ok(renameat(&self.0, &temporary, &self.0, name)?)
        })();
        if written.is_err() {
            // The incomplete file is useless. If it cannot be removed either, the first error is
            // the one to report.
            let _ = unlinkat(&self.0, &temporary, AtFlags::empty());
        }
        written
    }

    /// Removes the temporary files of processes that died.
    fn remove_left(&self) -> io::Result<()> {
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !(name.starts_with(b".") && name.ends_with(b".tmp")) {
                continue;
            }
            // Another process may remove it first.
            let Ok(found) =
                rustix::fs::statat(&self.0, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            else {
                continue;
            };
            let written =
                SystemTime::UNIX_EPOCH + Duration::from_secs(found.st_mtime.max(0) as u64);
            if written.elapsed().is_ok_and(|age| age > LEFT) {
                let _ = unlinkat(&self.0, entry.file_name(), AtFlags::empty());
            }
        }
        Ok(())
    }
}

/// Reads at most `most` bytes of a regular file of the package, whoever owns it.
pub(super) fn read_shipped(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // The installer may have made it a link.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(refused("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks that a file or folder belongs to this user or to root, and that nobody else may write it.
fn check_owner(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    let user = geteuid().as_raw();
    if found.uid() != user && found.uid() != 0 {
        return Err(refused(&format!("its owner is user {}, not user {user}", found.uid())));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refused(&format!(
            "its mode {:o} lets other users write to it (chmod go-w)",
            found.mode() & 0o7777
        )));
    }
    Ok(())
}

fn refused(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason.to_string())
}
