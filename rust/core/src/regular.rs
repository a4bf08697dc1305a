//! Opens regular files, and nothing else: to open a FIFO waits for a writer, and a device may have
//! no end.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use crate::shown::shown_path;
use crate::{Error, Result};

/// Opens a regular file to read it; returns its size as well. `verb` is for the message.
///
/// # Errors
/// [`Error::Format`] if it is something else, else the error of the operating system.
pub(crate) fn open(path: &Path, verb: &str) -> Result<(File, u64)> {
    open_or(path, |error| Error::io(format!("cannot {verb} {}", shown_path(path)), error))
}

/// [`open`] with the caller's own wording of the errors of the operating system.
pub(crate) fn open_or(path: &Path, failed: impl Fn(io::Error) -> Error) -> Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true);
    // Without waiting for a writer, and without taking a terminal; regular files ignore both.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        libc::O_NONBLOCK | libc::O_NOCTTY,
    );
    let found = options.open(path).and_then(|file| Ok((file.metadata()?, file)));
    match found {
        Ok((metadata, file)) if metadata.is_file() => Ok((file, metadata.len())),
        Ok((metadata, _)) => Err(refusal(path, &metadata)),
        // A socket cannot be opened at all; say what it is instead of "No such device or address".
        Err(error) => match path.metadata() {
            Ok(metadata) if !metadata.is_file() => Err(refusal(path, &metadata)),
            _ => Err(failed(error)),
        },
    }
}

fn refusal(path: &Path, metadata: &Metadata) -> Error {
    let kind = kind(metadata);
    Error::Format(format!("{} is {kind}, expected a regular file", shown_path(path)))
}

#[cfg(unix)]
fn kind(metadata: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "something else",
    }
}

#[cfg(not(unix))]
fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("metro-fast-regular-{}", std::process::id()));
        std::fs::write(&path, b"four").unwrap();
        assert_eq!(open(&path, "read").unwrap().1, 4);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(&path, "read"), Err(Error::Io { .. })));
        #[cfg(unix)]
        for (path, kind) in [(folder.as_path(), "a folder"), (Path::new("/dev/zero"), "a device")] {
            let message = open(path, "read").unwrap_err().to_string();
            assert!(message.contains(&format!("is {kind}, expected a regular file")), "{message}");
        }
    }
}
