//! Machine code on disk, in files that are named after a hash of everything they were made from.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

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

/// Reads the machine code for a key from a folder; `None` if the file is missing, truncated or
/// damaged.
pub(super) fn read(folder: &Path, key: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(folder.join(name(key))).ok()?;
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (hash, cubin) = rest.split_first_chunk::<HASH>()?;
    (magic == MAGIC && Sha256::digest(cubin).as_slice() == hash).then(|| cubin.to_vec())
}

/// Writes the machine code for a key to a folder. The file appears as a whole or not at all, even
/// if several processes write it at the same time.
///
/// # Errors
/// The errors of the file system.
pub(super) fn write(folder: &Path, key: &str, cubin: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)?;
    let turn = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{}.{}.{turn}.tmp", &key[..16], std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(Sha256::digest(cubin).as_slice())?;
        file.write_all(cubin)?;
        file.sync_all()?;
        std::fs::rename(&temporary, folder.join(name(key)))
    })();
    if written.is_err() {
        // The incomplete file is useless. If it cannot be removed either, the first error is the
        // one to report.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn name(key: &str) -> String {
    format!("{key}.cubin")
}
