//! Machine code on disk, in files that are named after a hash of everything they were made from.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::own_folder::{OwnFolder, read_shipped};

const MAGIC: &[u8; 8] = b"MFCUBIN1";
const HASH: usize = 32;
/// The most bytes that are read from a file, which is more than any image of these kernels has.
const MOST: u64 = 64 << 20;

/// Hashes everything that machine code is made from: text, headers, flags, and the compiler's
/// version, which may be empty.
pub(super) fn key(text: &str, headers: &[(&str, &str)], flags: &[String], version: &str) -> String {
    let mut hash = Sha256::new();
    // Each part is preceded by its length, so that the boundaries between parts are part of the
    // hash.
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(text);
    for (name, text) in headers {
        add(name);
        add(text);
    }
    for flag in flags {
        add(flag);
    }
    add(version);
    let hex = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    hash.finalize().iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]).collect()
}

/// Reads the machine code for a key from the user's folder; `None` if the file is missing, damaged,
/// or one that another user can write.
///
/// # Errors
/// If the folder is not one that only this user can write to.
pub(super) fn read(folder: &Path, key: &str) -> io::Result<Option<Vec<u8>>> {
    let own = match OwnFolder::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    Ok(own.read(&name(key), MOST).ok().and_then(whole))
}

/// Reads the machine code for a key from the folder of the package; `None` if the file is missing
/// or damaged.
pub(super) fn shipped(folder: &Path, key: &str) -> Option<Vec<u8>> {
    read_shipped(&folder.join(name(key)), MOST).ok().and_then(whole)
}

/// The machine code in the bytes of a file, if they are whole.
fn whole(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (hash, cubin) = rest.split_first_chunk::<HASH>()?;
    (magic == MAGIC && Sha256::digest(cubin).as_slice() == hash).then(|| cubin.to_vec())
}

/// Writes the machine code for a key to a folder. The file appears as a whole or not at all, even
/// if several processes write it at the same time.
///
/// # Errors
/// The errors of the file system, and if the folder is not one that only this user can write to.
pub(super) fn write(folder: &Path, key: &str, cubin: &[u8]) -> io::Result<()> {
    let hash = Sha256::digest(cubin);
    OwnFolder::create(folder)?.replace(&name(key), &[MAGIC, hash.as_slice(), cubin])
}

fn name(key: &str) -> String {
    format!("{key}.cubin")
}
