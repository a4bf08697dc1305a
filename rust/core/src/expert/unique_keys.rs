//! Refusal of JSON objects that have a key twice: readers differ in which of the two they take.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Any JSON value, read through and dropped.
struct Walked;

impl<'de> Deserialize<'de> for Walked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walker)
    }
}

struct Walker;

impl<'de> Visitor<'de> for Walker {
    type Value = Walked;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Walked, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("the key {key:?} appears twice")));
            }
            seen.insert(key);
            map.next_value::<Walked>()?;
        }
        Ok(Walked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Walked, A::Error> {
        while seq.next_element::<Walked>()?.is_some() {}
        Ok(Walked)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Walked, E> {
        Ok(Walked)
    }

    fn visit_unit<E: Error>(self) -> Result<Walked, E> {
        Ok(Walked)
    }
}

/// Checks that no object of a JSON text has a key twice.
///
/// # Errors
/// The parser's error, which names the key and its position.
pub(super) fn check(json: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<Walked>(json).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_appear_twice_are_named_at_any_depth() {
        for (json, key) in [
            (r#"{"a": 1, "b": [1.5, "x", null, true], "a": 2}"#, "a"),
            (r#"{"w": {"dtype": "F32", "shape": [-1], "dtype": "F16"}}"#, "dtype"),
            (r#"[[{"x": {}, "\u0078": {}}]]"#, "x"),
        ] {
            let message = check(json.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(&format!("{key:?} appears twice")), "{message}");
        }
        for json in [r#"{"a": {"b": 1}, "b": {"b": 2}}"#, "[]", "3"] {
            check(json.as_bytes()).unwrap();
        }
        assert!(check(b"{").is_err());
    }
}
