//! The text that a safetensors file carries beside its tensors, `__metadata__`.
//!
//! An expert keeps the one of the file it was made from, for the readers of that file: nothing
//! here relies on it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::Error;

/// Text by key, in ascending order of keys.
pub type Metadata = BTreeMap<String, String>;

/// The most entries that an expert keeps.
pub const MAX_ENTRIES: usize = 4096;
/// The most bytes that all its keys and values have together. Escaped as JSON they are at most six
/// times as long, which fits a manifest.
pub const MAX_BYTES: usize = 8 << 20;

/// Checks that an expert can keep it.
///
/// # Errors
/// [`Error::Format`] if it has too many entries or bytes.
pub fn check(metadata: &Metadata) -> crate::Result<()> {
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata.len() > MAX_ENTRIES || bytes > MAX_BYTES {
        let entries = metadata.len();
        return Err(Error::Format(format!(
            "the file's metadata has {entries} entries of {bytes} bytes, but an expert keeps at \
             most {MAX_ENTRIES} of {MAX_BYTES}: save the file with less of it"
        )));
    }
    Ok(())
}

/// Reads the metadata of a manifest: an object of strings that is not empty, with no key twice.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Metadata, D::Error> {
    deserializer.deserialize_map(Strings)
}

struct Strings;

impl<'de> Visitor<'de> for Strings {
    type Value = Metadata;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut metadata = Metadata::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            if metadata.len() == MAX_ENTRIES {
                return Err(A::Error::custom(format!("more than {MAX_ENTRIES} metadata entries")));
            }
            if metadata.insert(key, value).is_some() {
                return Err(A::Error::custom("a metadata key appears twice"));
            }
        }
        if metadata.is_empty() {
            return Err(A::Error::custom("the metadata is empty, expected it to be left out"));
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> serde_json::Result<Metadata> {
        deserialize(&mut serde_json::Deserializer::from_str(json))
    }

    #[test]
    fn only_objects_of_distinct_strings_are_read() {
        assert_eq!(read(r#"{"b": "2", "a": "\n\u0000"}"#).unwrap()["a"], "\n\0");
        for json in [
            "{}",
            "[]",
            "null",
            r#""a""#,
            r#"{"a": 1}"#,
            r#"{"a": null}"#,
            r#"{"a": {"b": "c"}}"#,
            r#"{"a": "1", "\u0061": "1"}"#,
            r#"{"a": "\ud800"}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_bounds_hold_exactly() {
        let many = |n: usize| (0..n).map(|i| (i.to_string(), String::new())).collect::<Metadata>();
        assert!(check(&many(MAX_ENTRIES)).is_ok());
        assert!(check(&many(MAX_ENTRIES + 1)).is_err());
        let json = serde_json::to_string(&many(MAX_ENTRIES + 1)).unwrap();
        assert!(read(&json).unwrap_err().to_string().contains("more than 4096"));
        let long = |n: usize| Metadata::from([("k".into(), "v".repeat(n - 1))]);
        assert!(check(&long(MAX_BYTES)).is_ok());
        assert!(check(&long(MAX_BYTES + 1)).is_err());
    }
}
