//! Writing files so that they exist whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::interrupt::point;
use crate::{Error, Result};

/// The most bytes that are written between two chances to interrupt the call.
const PIECE: usize = 8 << 20;

/// Pieces that are synced at a time: nothing can interrupt the sync of a gigabyte, which takes 0.45 s,
/// while that of 64 MiB takes 0.03 s, and the file as a whole takes as long.
const SYNCED: usize = 8;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Writes a file: the bytes go to a temporary file in the same folder, which is synced and then
/// renamed to `path`.
///
/// After a crash at any moment `path` has either its old bytes or the new ones; a hidden `.tmp`
/// file may be left beside it.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be written to; `path` is then unchanged.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    let (temporary, mut file) = create_beside(path)?;
    let failed = |error| Error::io(context(), error);
    let written = bytes
        .chunks(PIECE)
        .enumerate()
        .try_for_each(|(written, piece)| {
            point(piece.len())?;
            if written > 0 && written % SYNCED == 0 {
                file.sync_data().map_err(failed)?;
            }
            file.write_all(piece).map_err(failed)
        })
        .and_then(|()| file.sync_all().map_err(failed))
        .and_then(|()| fs::rename(&temporary, path).map_err(failed));
    if let Err(error) = written {
        // The first error is the one to report; a file left behind does no harm.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(path).map_err(|error| Error::io(context(), error))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn create_beside(path: &Path) -> Result<(PathBuf, File)> {
    let context = || format!("cannot write {}", path.display());
    let Some(name) = path.file_name() else {
        return Err(Error::io(context(), ErrorKind::InvalidFilename.into()));
    };
    loop {
        let mut temporary = OsString::from(".");
        temporary.push(name);
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        temporary.push(format!(".{}.{serial}.tmp", process::id()));
        let temporary = folder(path).join(temporary);
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // Left by a process of the same id: take the next name.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(context(), error)),
        }
    }
}

/// Makes the rename durable. Windows has no such call and does not need one.
#[cfg(unix)]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_replaces_and_leaves_nothing_beside() {
        let folder = std::env::temp_dir().join(format!("metro-fast-atomic-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        write_file(&path, b"one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        // A rename onto a folder fails: the temporary file goes away again.
        let error = write_file(&folder.join("."), b"x");
        assert!(matches!(error, Err(Error::Io { .. })));
        fs::create_dir(folder.join("taken")).unwrap();
        assert!(matches!(write_file(&folder.join("taken"), b"x"), Err(Error::Io { .. })));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        assert!(matches!(write_file(&folder.join("absent/file"), b"x"), Err(Error::Io { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }
}
