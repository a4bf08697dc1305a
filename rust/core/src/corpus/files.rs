//! The small files beside a token file, read with suspicion.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Width;
use crate::{Error, Result};

/// The `*.ds` files of a folder, sorted by name.
pub(super) fn token_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = |e| Error::io(format!("cannot list {}", folder.display()), e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(context)? {
        let path = entry.map_err(context)?.path();
        if path.extension() == Some(OsStr::new("ds")) {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Error::Format(format!(
            "{} holds no *.ds file: it is not a corpus that `metro-fast prepare` or datatrove wrote",
            folder.display()
        )));
    }
    paths.sort();
    Ok(paths)
}

/// The file that belongs to a token file: its name with a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// What a `.metadata` file says.
pub(super) struct Metadata {
    pub(super) tokenizer: String,
    pub(super) width: Width,
    pub(super) tokens: usize,
}

/// Longest metadata file that is read: three short lines.
const MAX_METADATA: u64 = 1 << 16;

impl Metadata {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let context = |e| {
            let about = "without it the bytes of a token are not known";
            Error::io(format!("cannot read {} ({about})", path.display()), e)
        };
        let mut text = Vec::new();
        let file = File::open(path).map_err(context)?;
        file.take(MAX_METADATA).read_to_end(&mut text).map_err(context)?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines();
        let (tokenizer, width) =
            lines.next().and_then(|line| line.rsplit_once('|')).ok_or_else(|| {
                Error::Format(format!(
                    "{} does not start with `tokenizer|bytes a token`",
                    path.display()
                ))
            })?;
        let width = match width.trim() {
            "2" => Width::Two,
            "4" => Width::Four,
            other => {
                return Err(Error::Format(format!(
                    "{} says that a token has {other:?} bytes, expected 2 or 4",
                    path.display()
                )));
            }
        };
        let tokens = lines.next().and_then(|line| line.trim().parse().ok()).ok_or_else(|| {
            Error::Format(format!("{} has no number of tokens in its second line", path.display()))
        })?;
        Ok(Self { tokenizer: tokenizer.into(), width, tokens })
    }
}

/// Number of documents of an index whose last end is `tokens`.
pub(super) fn documents(path: &Path, tokens: usize) -> Result<u64> {
    let context = |e| Error::io(format!("cannot read {}", path.display()), e);
    let mut file = File::open(path).map_err(context)?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(context)?;
    if bytes % 8 != 0 {
        return Err(Error::Format(format!(
            "{} has {bytes} bytes, expected 8 for every document",
            path.display()
        )));
    }
    let mut last = [0; 8];
    if bytes > 0 {
        file.seek(SeekFrom::End(-8)).map_err(context)?;
        file.read_exact(&mut last).map_err(context)?;
    }
    let last = u64::from_le_bytes(last);
    if last != tokens as u64 {
        return Err(Error::Format(format!(
            "{} ends at token {last}, but the metadata promises {tokens} tokens",
            path.display()
        )));
    }
    Ok(bytes / 8)
}
