//! Token corpora on disk: reading gives what was written, and no untrusted bytes cause a panic.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use metro_fast_core::corpus::{Corpus, Width};
use proptest::collection::vec;
use proptest::prelude::*;

/// A folder that is removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("metro-fast-corpus-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write(folder: &Path, name: &str, ids: &[u32], wide: bool) {
    let bytes: Vec<u8> = if wide {
        ids.iter().flat_map(|id| id.to_le_bytes()).collect()
    } else {
        ids.iter().flat_map(|id| (*id as u16).to_le_bytes()).collect()
    };
    let width = if wide { 4 } else { 2 };
    fs::write(folder.join(format!("{name}.ds")), bytes).unwrap();
    let end = (ids.len() as u64).to_le_bytes();
    fs::write(folder.join(format!("{name}.ds.index")), end).unwrap();
    let metadata = format!("a|b|{width}\n{}\n", ids.len());
    fs::write(folder.join(format!("{name}.ds.metadata")), metadata).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_reads_as_the_text(
        shards in vec((vec(0u32..65536, 0..40), any::<bool>()), 1..5),
        start in 0usize..200,
        length in 0usize..200,
    ) {
        let folder = Folder::new();
        for (number, (ids, wide)) in shards.iter().enumerate() {
            write(&folder.0, &number.to_string(), ids, *wide);
        }
        let text = shards.iter().flat_map(|(ids, _)| ids.clone()).collect::<Vec<_>>();
        let corpus = match Corpus::open(&folder.0) {
            Ok(corpus) => corpus,
            Err(error) => {
                prop_assert!(text.is_empty(), "{}", error);
                return Ok(());
            }
        };
        prop_assert_eq!(corpus.tokens(), text.len());
        prop_assert_eq!(corpus.tokenizer(), "a|b");
        let wide = shards.iter().any(|(_, wide)| *wide);
        prop_assert_eq!(corpus.width(), if wide { Width::Four } else { Width::Two });
        let mut out = vec![0u32; length];
        match text.get(start..start + length) {
            Some(expected) => {
                corpus.read(start, &mut out).unwrap();
                prop_assert_eq!(&out, expected);
            }
            None => prop_assert!(corpus.read(start, &mut out).is_err()),
        }
    }

    #[test]
    fn no_bytes_panic(ids in vec(any::<u8>(), 0..40), index in vec(any::<u8>(), 0..40), metadata in "[a|0-9\n -]{0,24}") {
        let folder = Folder::new();
        fs::write(folder.0.join("x.ds"), &ids).unwrap();
        fs::write(folder.0.join("x.ds.index"), &index).unwrap();
        fs::write(folder.0.join("x.ds.metadata"), metadata).unwrap();
        if let Ok(corpus) = Corpus::open(&folder.0) {
            prop_assert!(corpus.tokens() * 2 == ids.len() || corpus.tokens() * 4 == ids.len());
        }
    }
}
