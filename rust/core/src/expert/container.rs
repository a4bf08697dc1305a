//! A safetensors file: written in one fixed order, read through the safetensors crate's checks.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::Metadata as Header;
use serde_json::{Map, Value, json};

use super::dtype::Dtype;
use super::json::json_text;
use super::manifest::MAX_TENSORS;
use super::metadata::Metadata;
use super::shapes::check_shape;
use super::unique_keys;
use crate::interrupt::append;
use crate::shown::shown_path;
use crate::{Error, Result, memory, regular};

/// A file begins with the length of its header, a little-endian integer of this many bytes.
const LENGTH: usize = 8;
/// The longest header that the safetensors crate accepts.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes that are allocated for each byte of a header, in pieces.
const PER_BYTE: usize = 16;
/// Bytes that are allocated for each tensor whose header is written, in pieces, and for each byte of
/// its name.
const PER_TENSOR: usize = 2048;

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    name: String,
    dtype: String,
    size: u64,
    shape: Vec<u64>,
    bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// A tensor of one of the dtypes that experts hold.
    pub fn of(name: &str, dtype: Dtype, shape: &[u64], bytes: &'a [u8]) -> Self {
        Self::new(name, &dtype.name(), dtype.size(), shape.to_vec(), bytes)
    }

    pub(super) fn new(
        name: &str,
        dtype: &str,
        size: u64,
        shape: Vec<u64>,
        bytes: &'a [u8],
    ) -> Self {
        Self { name: name.into(), dtype: dtype.into(), size, shape, bytes }
    }
}

/// The position of a tensor in a safetensors file.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its element type, as safetensors names it.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub bytes: Range<usize>,
}

/// The header of a safetensors file.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Its tensors, in ascending order of names.
    pub places: Vec<Place>,
    /// Its text beside them, which may be empty.
    pub metadata: Metadata,
}

/// Makes the bytes of a safetensors file.
///
/// Tensors are sorted by falling element size, which keeps each of them aligned, then by name. The
/// crate's own writer is not used because it writes `__metadata__` in random order.
///
/// # Errors
/// [`Error::Shape`] if a tensor's bytes do not have the size of its shape, [`Error::Memory`] if there
/// is not enough memory.
pub fn encode(mut tensors: Vec<Entry<'_>>, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    tensors.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    let names: usize = tensors.iter().map(|tensor| tensor.name.len()).sum();
    let texts: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    memory::expect(PER_TENSOR * tensors.len() + PER_BYTE * (names + texts) + (1 << 16))?;
    let mut header = Map::new();
    let about: Map<_, _> = metadata.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    header.insert("__metadata__".into(), Value::Object(about));
    let mut at = 0;
    for tensor in &tensors {
        let elements = tensor.shape.iter().try_fold(tensor.size, |n, size| n.checked_mul(*size));
        if elements != Some(tensor.bytes.len() as u64) {
            let (name, shape, bytes) = (&tensor.name, &tensor.shape, tensor.bytes.len());
            return Err(Error::Shape(format!("{name} of shape {shape:?} has {bytes} bytes")));
        }
        let end = at + tensor.bytes.len();
        header.insert(
            tensor.name.clone(),
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]}),
        );
        at = end;
    }
    let text = json_text(&Value::Object(header))?;
    let length = text.len().next_multiple_of(8);
    let mut file = memory::with_room(8 + length + at)?;
    file.extend_from_slice(&(length as u64).to_le_bytes());
    file.extend_from_slice(text.as_bytes());
    file.resize(8 + length, b' ');
    for tensor in &tensors {
        append(&mut file, tensor.bytes)?;
    }
    Ok(file)
}

/// Finds the tensors of a safetensors file, in ascending order of names.
///
/// # Errors
/// [`Error::Format`] if the bytes are not a safetensors file, or if offsets, sizes and shapes do
/// not fit each other.
pub fn decode(file: &[u8]) -> Result<Vec<Place>> {
    Ok(contents(file)?.places)
}

/// Reads the header of a safetensors file that is in memory.
///
/// # Errors
/// Those of [`decode`].
pub fn contents(file: &[u8]) -> Result<Contents> {
    parse(file, file.len() as u64)
}

/// Reads the header of a safetensors file, and nothing else of it.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, else the errors of [`decode`].
pub fn read_contents(path: &Path) -> Result<Contents> {
    let failed = |error| Error::io(format!("cannot read {}", shown_path(path)), error);
    let (mut file, size) = regular::open(path, "read")?;
    let mut start = Vec::new();
    // Long enough to recognize other formats by.
    file.by_ref().take(2 * LENGTH as u64).read_to_end(&mut start).map_err(failed)?;
    let rest = header_end(&start, size)?.saturating_sub(start.len());
    file.take(rest as u64).read_to_end(&mut start).map_err(failed)?;
    parse(&start, size)
}

/// Reads a header from the start of a file of `size` bytes.
fn parse(start: &[u8], size: u64) -> Result<Contents> {
    let data = header_end(start, size)?;
    let header = start
        .get(LENGTH..data)
        .ok_or_else(|| Error::Format("the file became shorter while it was read".into()))?;
    memory::expect(PER_BYTE * header.len() + (1 << 16))?;
    let parsed: Header = serde_json::from_slice(header)
        .map_err(|error| Error::Format(format!("{}: {error}", looks_like(start))))?;
    unique_keys::check(header)
        .map_err(|error| Error::Format(format!("the safetensors header: {error}")))?;
    // The crate has checked that the tensors follow each other without gaps.
    let end = data as u64 + parsed.data_len() as u64;
    if end != size {
        return Err(Error::Format(format!(
            "the file has {size} bytes, but its header describes {end}: cut or damaged"
        )));
    }
    let metadata = parsed.metadata().iter().flatten();
    let metadata = metadata.map(|(key, value)| (key.clone(), value.clone())).collect();
    let tensors = parsed.tensors();
    if tensors.len() > MAX_TENSORS {
        return Err(Error::Format(format!(
            "the file has {} tensors, but at most {MAX_TENSORS} are allowed",
            tensors.len()
        )));
    }
    for (name, info) in &tensors {
        check_shape(name, &info.shape)?;
    }
    let mut places: Vec<Place> = tensors
        .into_iter()
        .map(|(name, info)| Place {
            name,
            dtype: info.dtype.to_string(),
            shape: info.shape.clone(),
            bytes: data + info.data_offsets.0..data + info.data_offsets.1,
        })
        .collect();
    places.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Contents { places, metadata })
}

/// The end of the header, which is where the tensors begin.
fn header_end(start: &[u8], size: u64) -> Result<usize> {
    let refused = |reason: String| Err(Error::Format(format!("{}: {reason}", looks_like(start))));
    let Some(length) = start.first_chunk::<LENGTH>() else {
        return refused(format!("{size} bytes, expected at least {LENGTH}"));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER.min(size.saturating_sub(LENGTH as u64)) {
        return refused(format!("a header of {length} bytes in a file of {size}"));
    }
    Ok(LENGTH + length as usize)
}

/// Guesses what a file that is not a safetensors file is.
fn looks_like(file: &[u8]) -> &'static str {
    match file {
        [] => "an empty file",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', b'h', ..] => {
            "a Git LFS pointer, not the file itself (run `git lfs pull`)"
        }
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => {
            "a pickle, which is not opened as safetensors"
        }
        _ => "not a safetensors file, or cut",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_in_a_fixed_order() {
        let (a, b) = ([1u8; 6], [2u8; 8]);
        let tensors = vec![
            Entry::of("x", Dtype::BF16, &[3, 1], &a),
            Entry::of("y", Dtype::F64, &[], &b),
            Entry::of("z", Dtype::U8, &[0, 4], &[]),
        ];
        let file = encode(tensors, &[("format", "pt")]).unwrap();
        let places = decode(&file).unwrap();
        let seen: Vec<_> = places.iter().map(|p| (p.name.as_str(), p.dtype.as_str())).collect();
        assert_eq!(seen, [("x", "BF16"), ("y", "F64"), ("z", "U8")]);
        assert_eq!(file[places[0].bytes.clone()], a);
        assert_eq!(places[1].bytes.start % 8, 0);
        let metadata = contents(&file).unwrap().metadata;
        assert_eq!(metadata, Metadata::from([("format".into(), "pt".into())]));
        assert!(encode(vec![Entry::of("x", Dtype::F32, &[2], &a)], &[]).is_err());
    }

    #[test]
    fn a_name_that_appears_twice_is_refused() {
        let header = concat!(
            r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#,
            r#""w":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.push(0);
        let message = decode(&file).unwrap_err().to_string();
        assert!(message.contains(r#"the key "w" appears twice"#), "{message}");
    }

    #[test]
    fn foreign_files_are_named() {
        let message = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert!(message(b"").contains("empty"));
        assert!(message(b"version https://git-lfs.github.com/spec/v1\noid").contains("lfs pull"));
        assert!(message(b"PK\x03\x04aaaaaaaa").contains("pickle"));
        assert!(message(b"\x80\x02cos\nsystem\n").contains("pickle"));
    }

    #[test]
    fn the_header_alone_gives_the_same_places_and_refusals() {
        let path = std::env::temp_dir().join(format!("metro-fast-places-{}", std::process::id()));
        let of_file = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_contents(&path).map(|found| format!("{found:?}")).map_err(|e| e.to_string())
        };
        let of_bytes = |b: &[u8]| contents(b).map(|p| format!("{p:?}")).map_err(|e| e.to_string());
        let bytes = [7u8; 600];
        let entry = Entry::of("x", Dtype::U8, &[600], &bytes);
        let whole = encode(vec![entry], &[("format", "pt")]).unwrap();
        assert!(of_file(&whole).unwrap().contains("\"x\""));
        for end in 0..whole.len() {
            assert_eq!(of_file(&whole[..end]), of_bytes(&whole[..end]), "cut at {end}");
            assert!(of_file(&whole[..end]).is_err(), "cut at {end}");
        }
        let longer = [&whole[..], b"x"].concat();
        let others: [&[u8]; 4] = [&whole, &longer, b"PK\x03\x04aaaaaaaa", &[0xff; 40]];
        for bytes in others {
            assert_eq!(of_file(bytes), of_bytes(bytes));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_contents(&path), Err(Error::Io { .. })));
    }
}
