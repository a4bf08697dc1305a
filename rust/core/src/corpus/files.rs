//! Finds the files of a corpus.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::shown::shown_path;
use crate::{Error, Result};

/// The files of a corpus, sorted by name.
pub(super) enum Found {
    /// `*.ds` files.
    Datatrove(Vec<PathBuf>),
    /// The prefixes `NAME` of the pairs `NAME.bin` and `NAME.idx`.
    Indexed(Vec<PathBuf>),
}

/// Finds the files in a folder, or the pair with a given prefix.
pub(super) fn find(path: &Path) -> Result<Found> {
    if path.is_dir() { in_folder(path) } else { Ok(Found::Indexed(vec![prefix(path)?])) }
}

fn in_folder(folder: &Path) -> Result<Found> {
    let context = |e| Error::io(format!("cannot list {}", shown_path(folder)), e);
    let (mut token_files, mut prefixes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(context)? {
        let path = entry.map_err(context)?.path();
        if path.extension() == Some(OsStr::new("ds")) {
            token_files.push(path);
        } else if path.extension() == Some(OsStr::new("idx")) {
            prefixes.push(path.with_extension(""));
        }
    }
    token_files.sort();
    prefixes.sort();
    match (token_files.is_empty(), prefixes.is_empty()) {
        (false, true) => Ok(Found::Datatrove(token_files)),
        (true, false) => Ok(Found::Indexed(prefixes)),
        (true, true) => Err(Error::Format(format!(
            "{} is not a corpus: it holds neither *.ds files (`metro-fast prepare`, datatrove) nor *.idx \
             files (Megatron-LM, fairseq)",
            shown_path(folder)
        ))),
        (false, false) => Err(Error::Format(format!(
            "{} holds {} *.ds files and {} *.idx files: put the two kinds into separate folders, or \
             open one pair by its prefix",
            shown_path(folder),
            token_files.len(),
            prefixes.len()
        ))),
    }
}

/// Returns `NAME` for a path `NAME`, `NAME.bin` or `NAME.idx`.
fn prefix(path: &Path) -> Result<PathBuf> {
    let named = path.extension().is_some_and(|end| end == "bin" || end == "idx");
    let prefix = if named { path.with_extension("") } else { path.into() };
    let index = beside(&prefix, ".idx");
    fs::metadata(&index).map_err(|e| {
        let about = "a corpus is a folder, or the prefix NAME of a pair NAME.bin and NAME.idx";
        Error::io(format!("cannot open {} as a corpus ({about})", shown_path(path)), e)
    })?;
    Ok(prefix)
}

/// Returns the path of a companion file: the path with a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
