//! A safetensors file: written in one fixed order, read through the safetensors crate's checks.

use std::ops::Range;

use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::manifest::Dtype;
use super::unique_keys;
use crate::{Error, Result};

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

/// Where a tensor of a safetensors file lies.
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

/// Writes a safetensors file: falling element size, which keeps every tensor aligned, then name.
///
/// Made here, because the crate writes `__metadata__` in random order.
///
/// # Errors
/// [`Error::Shape`] if a tensor's bytes do not have the size of its shape.
pub fn encode(mut tensors: Vec<Entry<'_>>, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
    tensors.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
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
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut file = Vec::with_capacity(8 + text.len() + at);
    file.extend_from_slice(&(text.len() as u64).to_le_bytes());
    file.extend_from_slice(text.as_bytes());
    for tensor in &tensors {
        file.extend_from_slice(tensor.bytes);
    }
    Ok(file)
}

/// Finds the tensors of a safetensors file, by name.
///
/// # Errors
/// [`Error::Format`] if it is none, or offsets, sizes and shapes do not fit.
pub fn decode(file: &[u8]) -> Result<Vec<Place>> {
    let (header, metadata) = SafeTensors::read_metadata(file)
        .map_err(|error| Error::Format(format!("{}: {error}", looks_like(file))))?;
    let data = 8 + header;
    unique_keys::check(&file[8..data])
        .map_err(|error| Error::Format(format!("the safetensors header: {error}")))?;
    let mut places: Vec<Place> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| Place {
            name,
            dtype: info.dtype.to_string(),
            shape: info.shape.clone(),
            bytes: data + info.data_offsets.0..data + info.data_offsets.1,
        })
        .collect();
    places.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(places)
}

/// What a file that is no safetensors file probably is.
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
        assert!(encode(vec![Entry::of("x", Dtype::F32, &[2], &a)], &[]).is_err());
    }

    #[test]
    fn a_name_that_stands_twice_is_refused() {
        let header = concat!(
            r#"{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#,
            r#""w":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.push(0);
        let message = decode(&file).unwrap_err().to_string();
        assert!(message.contains(r#"the key "w" stands there twice"#), "{message}");
    }

    #[test]
    fn foreign_files_are_named() {
        let message = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert!(message(b"").contains("empty"));
        assert!(message(b"version https://git-lfs.github.com/spec/v1\noid").contains("lfs pull"));
        assert!(message(b"PK\x03\x04aaaaaaaa").contains("pickle"));
        assert!(message(b"\x80\x02cos\nsystem\n").contains("pickle"));
    }
}
