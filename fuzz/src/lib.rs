//! Corrects the checksums of damaged bytes. Without this, every mutation would fail at the first
//! checksum, and the code behind it would never be reached.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use metro_fast_core::corpus::blocks::{BlockMode, Blocks};
use metro_fast_core::corpus::{Corpus, Width};
use metro_fast_core::rng::{Key, Stream};
use metro_fast_core::simd::Level;
use metro_fast_core::ternary::codec::Block;
use serde_json::{Value, json};

const HEADER: usize = 32;
const ROW: usize = 16;
const GUARD: usize = 256;

/// The most trits that a target decodes, because a few bytes of header can describe a trillion
/// zeros.
const LIMIT: usize = 1 << 22;

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i])) as usize
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Writes the correct length and checksums into a packed block, as far as its index is valid.
pub fn correct_block(block: &mut [u8]) {
    if block.len() < HEADER + GUARD {
        return;
    }
    let total = block.len() as u64;
    block[16..24].copy_from_slice(&total.to_le_bytes());
    let payload = HEADER + ROW * word(block, 24).min((block.len() - HEADER - GUARD) / ROW);
    let end = block.len() - GUARD;
    let mut row = HEADER;
    while row < payload {
        let start = payload + 16 * word(block, row);
        let next = if row + ROW < payload { payload + 16 * word(block, row + ROW) } else { end };
        if let Some(stream) = block.get(start..next.min(end)) {
            let crc = crc32c::crc32c(stream);
            put(block, row + 12, crc);
        }
        row += ROW;
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&block[..28]), &block[HEADER..payload]);
    put(block, 28, crc);
}

/// Decodes a block with every instruction set, which must give the same trits or the same error.
pub fn decode_block(bytes: &[u8]) {
    let Ok(block) = Block::parse(bytes) else { return };
    let count = block.count();
    if count > LIMIT {
        return;
    }
    let decode = |level| {
        let mut out = vec![0i8; count];
        let block = block.clone().at(level);
        block.unpack([-1, 0, 1], &mut out, 1).map(|()| out).map_err(|error| error.to_string())
    };
    let expected = decode(Level::Scalar);
    for level in [Level::Avx2, Level::Avx512] {
        assert!(decode(level) == expected, "{level:?}");
    }
    if let Ok(trits) = expected {
        let mut out = vec![0f32; count];
        block.unpack([-0.5, 0.0, 0.5], &mut out, 2).unwrap();
        assert!(trits.iter().zip(out).all(|(trit, value)| f32::from(*trit) * 0.5 == value));
        let nonzeros = trits.iter().filter(|trit| **trit != 0).count();
        assert_eq!(nonzeros as u64, block.nonzeros());
    }
}

/// Makes an expert file with correct checksums from its parts. `dense` is divided among the dense
/// tensors of the manifest, as far as it reaches.
pub fn expert_file(manifest: &[u8], scales: &[u8], block: &[u8], dense: &[u8]) -> Vec<u8> {
    let mut block = block.to_vec();
    correct_block(&mut block);
    let mut tensors: Vec<(String, Value, Value, Vec<u8>)> = Vec::new();
    let mut text = manifest.to_vec();
    if let Ok(mut fields) = serde_json::from_slice::<Value>(manifest) {
        let mut rest = dense;
        let dense = fields.get_mut("dense").and_then(Value::as_array_mut);
        for entry in dense.into_iter().flatten().filter_map(Value::as_object_mut) {
            let size = match entry.get("dtype").and_then(Value::as_str) {
                Some("BOOL" | "U8" | "I8") => 1,
                Some("I16" | "F16" | "BF16") => 2,
                Some("I32" | "F32") => 4,
                _ => 8,
            };
            let shape = entry.get("shape").and_then(Value::as_array);
            let shape: Vec<u64> = shape.into_iter().flatten().filter_map(Value::as_u64).collect();
            let bytes = shape.iter().try_fold(size, |n: u64, size| n.checked_mul(*size));
            let Some((data, after)) =
                bytes.and_then(|n| rest.split_at_checked(usize::try_from(n).ok()?))
            else {
                break;
            };
            rest = after;
            entry.insert("crc32c".into(), crc32c::crc32c(data).into());
            let text = |key| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let name = format!("dense.{}", text("name"));
            tensors.push((name, text("dtype").into(), json!(shape), data.to_vec()));
        }
        text = fields.to_string().into_bytes();
    }
    let deflated = miniz_oxide::deflate::compress_to_vec(&text, 1);
    let fields = serde_json::from_slice::<Value>(&text).unwrap_or_default();
    let version = if fields["version"] == 2 { 2 } else { 1 };
    let mut head: Vec<u8> =
        [version, text.len() as u32].iter().flat_map(|w: &u32| w.to_le_bytes()).collect();
    let index = if block.len() < HEADER {
        block.len()
    } else {
        (HEADER + ROW * word(&block, 24)).min(block.len())
    };
    let crc = [&head[..], &deflated, scales, &block[..index]]
        .iter()
        .fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    head.extend_from_slice(&crc.to_le_bytes());
    head.extend_from_slice(&[0; 4]);
    let u8s = |bytes: &[u8]| json!([bytes.len()]);
    tensors.push(("compeft.head".into(), "U32".into(), json!([4]), head));
    tensors.push(("compeft.manifest".into(), "U8".into(), u8s(&deflated), deflated));
    let whole = scales.len() / 4;
    tensors.push((
        "compeft.scales".into(),
        "F32".into(),
        json!([whole]),
        scales[..4 * whole].into(),
    ));
    tensors.push(("compeft.trits".into(), "U8".into(), u8s(&block), block));
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend(bytes);
        let place = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, place);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(data);
    file
}

/// A folder for the files that a corpus is mapped from, which .ci/fuzz puts into memory.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("metro-fast-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// Writes the files of a corpus and reads all of it. The first byte chooses the format, the next two
/// are the length of the index; the index and the tokens follow.
pub fn corpus(data: &[u8]) {
    let Some(([kind, low, high], rest)) = data.split_first_chunk::<3>() else { return };
    let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (index, tokens) = rest.split_at(length);
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder().join(name), bytes).unwrap();
    let path = if kind & 1 == 0 {
        write("pair.idx", index);
        write("pair.bin", tokens);
        folder().join("pair")
    } else {
        let datatrove = folder().join("datatrove");
        std::fs::create_dir_all(&datatrove).unwrap();
        // The number of tokens is right, as a checksum would be corrected.
        let width = if kind & 2 == 0 { 2 } else { 4 };
        let metadata = format!("a|{width}\n{}\n", tokens.len() / width);
        write("datatrove/a.ds", tokens);
        write("datatrove/a.ds.index", index);
        write("datatrove/a.ds.metadata", metadata.as_bytes());
        datatrove
    };
    if let Ok(corpus) = Corpus::open(&path) {
        read_corpus(&Arc::new(corpus));
    }
}

/// Every token is in exactly one item, and the blocks are ranges of the text.
fn read_corpus(corpus: &Arc<Corpus>) {
    let count = corpus.tokens();
    assert_eq!(corpus.items_from(0).map(|item| item.length).sum::<u64>(), count as u64);
    let mut segments = vec![0; count];
    corpus.segments(0, &mut segments).unwrap();
    assert!(segments.is_sorted() && segments[0] == 1);
    match corpus.width() {
        Width::Two => drop(corpus.read(0, &mut vec![0u16; count])),
        Width::Four => drop(corpus.read(0, &mut vec![0u32; count])),
    }
    let modes =
        [BlockMode::None, BlockMode::Complete, BlockMode::CompleteDoc, BlockMode::Eos, BlockMode::Pack];
    let crop = Key::new(1, 2, Stream::Crop);
    for mode in modes {
        for size in [1, 5, 1 << 20] {
            let Ok(blocks) = Blocks::new(corpus.clone(), mode, size, false) else { continue };
            let mut last = 0;
            for block in 0..blocks.count().min(256) {
                let (start, end) = blocks.range(block, crop);
                assert!(last <= start && start < end && end <= count as u64 && end - start <= size);
                last = end;
            }
        }
    }
}
