//! Which tokens may be drawn, and at which temperature.

use super::logits::Logit;
use crate::{Error, Result, memory};

/// Size of the largest vocabulary: the sum of 2^23 weights of 2^40 still fits in 64 bits.
const MAX_VOCABULARY: usize = 1 << 23;

/// How tokens are drawn: from `softmax(logits / temperature)` over the tokens that may be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Sampling<'a> {
    /// 1e-6 to 1e6.
    pub temperature: f64,
    /// Draw among this many likeliest tokens, and those as likely as the last of them.
    pub top_k: Option<usize>,
    /// Tokens that no row draws.
    pub forbidden: &'a [i64],
    /// A token for each row that it does not draw, such as the original.
    pub excluded: Option<&'a [i64]>,
}

impl Default for Sampling<'_> {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, forbidden: &[], excluded: None }
    }
}

impl Sampling<'_> {
    /// Checks the values for a matrix of logits.
    ///
    /// # Errors
    /// If a value is outside its domain, or the excluded tokens are not one for each row.
    pub fn check(&self, rows: usize, vocabulary: usize) -> Result<()> {
        let temperature = self.temperature;
        if !(1e-6..=1e6).contains(&temperature) {
            return Err(Error::argument("temperature", temperature, "a number from 1e-6 to 1e6"));
        }
        if !(1..=MAX_VOCABULARY).contains(&vocabulary) {
            return Err(Error::argument("logits.shape[1]", vocabulary, "1 to 2^23 tokens"));
        }
        if self.top_k == Some(0) {
            return Err(Error::argument("top_k", 0, "1 or more tokens"));
        }
        let inside = |id: &i64| usize::try_from(*id).is_ok_and(|id| id < vocabulary);
        let expected = || format!("token ids below the {vocabulary} of the vocabulary");
        if let Some(id) = self.forbidden.iter().find(|id| !inside(id)) {
            return Err(Error::argument("forbidden", id, expected()));
        }
        let Some(excluded) = self.excluded else { return Ok(()) };
        if excluded.len() != rows {
            return Err(Error::Shape(format!(
                "excluded holds {} ids for {rows} rows, expected one for each row",
                excluded.len()
            )));
        }
        match excluded.iter().position(|id| !inside(id)) {
            Some(row) => {
                let found = format!("{} at row {row}", excluded[row]);
                Err(Error::argument("excluded", found, expected()))
            }
            None => Ok(()),
        }
    }

    /// Returns whether every token may be drawn.
    fn allows_all(&self, vocabulary: usize) -> bool {
        self.forbidden.is_empty()
            && self.excluded.is_none()
            && self.top_k.is_none_or(|k| k >= vocabulary)
    }

    /// Returns the logits of a row with -Inf at every token that may not be drawn. Forbidden and
    /// excluded tokens are removed first, and the likeliest are chosen among the rest.
    pub(super) fn allowed<'s, T: Logit>(
        &self,
        row: usize,
        logits: &'s [T],
        scratch: &'s mut Scratch<T>,
    ) -> Result<&'s [T]> {
        if self.allows_all(logits.len()) {
            return Ok(logits);
        }
        let Scratch { kept, keys } = scratch;
        kept.clear();
        memory::grow(kept, logits.len())?;
        kept.extend_from_slice(logits);
        for id in self.forbidden.iter().chain(self.excluded.and_then(|ids| ids.get(row))) {
            if let Some(logit) = kept.get_mut(*id as usize) {
                *logit = T::NEVER;
            }
        }
        if let Some(k) = self.top_k.filter(|k| *k < logits.len()) {
            keys.clear();
            memory::grow(keys, logits.len())?;
            keys.extend(kept.iter().map(|logit| key(logit.to_f32())));
            let (_, key, _) = keys.select_nth_unstable_by(k - 1, |a, b| b.cmp(a));
            let lowest = value(*key);
            for logit in kept.iter_mut() {
                if logit.to_f32() < lowest {
                    *logit = T::NEVER;
                }
            }
        }
        Ok(kept)
    }
}

/// Room for the logits of one row, and for the keys by which they are ordered.
#[derive(Debug)]
pub(super) struct Scratch<T> {
    kept: Vec<T>,
    keys: Vec<i32>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), keys: Vec::new() }
    }
}

/// Returns an integer that orders as the logits do.
#[inline(always)]
fn key(logit: f32) -> i32 {
    let bits = logit.to_bits() as i32;
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

/// Returns the logit of a key.
fn value(key: i32) -> f32 {
    f32::from_bits((key ^ ((key >> 31) as u32 >> 1) as i32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(sampling: &Sampling, row: usize, logits: &[f32]) -> Vec<usize> {
        let mut scratch = Scratch::default();
        let kept = sampling.allowed(row, logits, &mut scratch).unwrap();
        (0..kept.len()).filter(|id| kept[*id] > f32::NEG_INFINITY).collect()
    }

    #[test]
    fn keys_order_as_logits_do() {
        let sorted = [f32::NEG_INFINITY, f32::MIN, -2.5, -1e-45, -0.0, 0.0, 1e-45, 7.0, f32::MAX];
        for pair in sorted.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
        }
        assert!(sorted.iter().all(|x| value(key(*x)).to_bits() == x.to_bits()));
    }

    #[test]
    fn the_likeliest_are_chosen_among_those_that_are_left() {
        let logits = [4.0, 3.0, 3.0, 2.0, -1.0, -0.0, 0.0];
        let all = Sampling::default();
        assert_eq!(allowed(&all, 0, &logits), [0, 1, 2, 3, 4, 5, 6]);
        // Ties with the last one stay; -0 is as likely as 0.
        assert_eq!(allowed(&Sampling { top_k: Some(2), ..all }, 0, &logits), [0, 1, 2]);
        assert_eq!(allowed(&Sampling { top_k: Some(5), ..all }, 0, &logits), [0, 1, 2, 3, 5, 6]);
        let forbidden = Sampling { forbidden: &[1, 1, 6], top_k: Some(2), ..all };
        assert_eq!(allowed(&forbidden, 0, &logits), [0, 2]);
        let excluded = Sampling { excluded: Some(&[0, 2]), ..forbidden };
        assert_eq!(allowed(&excluded, 0, &logits), [2, 3]);
        assert_eq!(allowed(&excluded, 1, &logits), [0, 3]);
    }

    #[test]
    fn bad_values_are_named() {
        let all = Sampling::default();
        for (sampling, text) in [
            (Sampling { top_k: Some(0), ..all }, "top_k is 0"),
            (Sampling { forbidden: &[3, 7], ..all }, "forbidden is 7, expected token ids below"),
            (Sampling { forbidden: &[-1], ..all }, "forbidden is -1"),
            (Sampling { excluded: Some(&[1]), ..all }, "excluded holds 1 ids for 2 rows"),
            (Sampling { excluded: Some(&[1, -100]), ..all }, "excluded is -100 at row 1"),
        ] {
            let message = sampling.check(2, 7).unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-7] {
            assert!(Sampling { temperature, ..all }.check(2, 7).is_err());
        }
    }
}
