//! The options of METRO's masks, checked and turned into integers.

use crate::rng::Words;
use crate::{Error, Result};

/// Options of [`super::mask_tokens`].
#[derive(Clone, Debug)]
pub struct Masking {
    /// Share of the eligible tokens that is masked, in `[0, 1]`.
    pub probability: f64,
    /// Share of the masked tokens that becomes the mask token.
    pub replace: f64,
    /// Share of the masked tokens that becomes a random token; the rest is kept.
    pub random: f64,
    /// Id of the mask token.
    pub mask_token: i64,
    /// Ids run from 0 up to, but not including, this.
    pub vocab_size: i64,
    /// Ids that are never masked and never drawn.
    pub special: Vec<i64>,
    /// Random tokens come from `start..end`, without the special ids.
    pub random_range: (i64, i64),
    /// Id that fills the inputs of short rows.
    pub pad: i64,
}

/// The options, checked and turned into integers.
pub(super) struct Plan {
    pub(super) probability: f64,
    mask_below: u64,
    random_below: u64,
    mask_token: i64,
    vocab_size: i64,
    /// Special ids as maximal runs (first, last), ascending.
    special_runs: Vec<(i64, i64)>,
    random_start: i64,
    random_count: u32,
    /// For each special id in the random range: how many ordinary ids lie before it there.
    gaps: Vec<u32>,
}

impl Plan {
    pub(super) fn new(options: &Masking) -> Result<Self> {
        for (name, share) in [
            ("mlm_probability", options.probability),
            ("mask_replace_prob", options.replace),
            ("random_replace_prob", options.random),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::argument(name, share, "a share from 0 to 1"));
            }
        }
        if options.replace + options.random > 1.0 {
            return Err(Error::argument(
                "mask_replace_prob + random_replace_prob",
                options.replace + options.random,
                "at most 1",
            ));
        }
        let vocab_size = options.vocab_size;
        if !(1..1 << 31).contains(&vocab_size) {
            return Err(Error::argument("vocab_size", vocab_size, "1 to 2^31 - 1"));
        }
        for (name, id) in [("mask_token_id", options.mask_token), ("pad_token_id", options.pad)] {
            if !(0..vocab_size).contains(&id) {
                return Err(Error::argument(
                    name,
                    id,
                    format!("an id below vocab_size {vocab_size}"),
                ));
            }
        }
        let mut special = options.special.clone();
        special.sort_unstable();
        special.dedup();
        if let Some(id) = special.iter().find(|id| !(0..vocab_size).contains(*id)) {
            return Err(Error::argument(
                "special_token_ids",
                id,
                format!("ids below vocab_size {vocab_size}"),
            ));
        }
        let (start, end) = options.random_range;
        if start < 0 || end > vocab_size || start > end {
            return Err(Error::argument(
                "random_token_range",
                format!("({start}, {end})"),
                format!("a range within (0, {vocab_size})"),
            ));
        }
        let inside = special.iter().filter(|id| (start..end).contains(*id));
        let gaps: Vec<u32> =
            inside.enumerate().map(|(i, id)| (id - start) as u32 - i as u32).collect();
        let random_count = (end - start) as u32 - gaps.len() as u32;
        if random_count == 0 && options.random > 0.0 {
            return Err(Error::argument(
                "random_token_range",
                format!("({start}, {end})"),
                "a range with at least one id that is not special",
            ));
        }
        let mut special_runs: Vec<(i64, i64)> = Vec::new();
        for id in special {
            match special_runs.last_mut() {
                Some((_, last)) if *last + 1 == id => *last = id,
                _ => special_runs.push((id, id)),
            }
        }
        // Multiplying by 2^32 is exact, so the thresholds are the shares rounded down to 2^-32.
        let below = |share: f64| (share * 4_294_967_296.0) as u64;
        Ok(Self {
            probability: options.probability,
            mask_below: below(options.replace),
            random_below: below(options.replace + options.random),
            mask_token: options.mask_token,
            vocab_size,
            special_runs,
            random_start: start,
            random_count,
            gaps,
        })
    }

    /// Marks which tokens of a row, ids of the vocabulary, are special.
    pub(super) fn mark_special(&self, ids: &[i64], special: &mut Vec<bool>) {
        special.clear();
        special.resize(ids.len(), false);
        // A run at a time over the whole row: no branch, and half as wide as the ids.
        for (first, last) in &self.special_runs {
            let (first, span) = (*first as u32, (*last - *first) as u32);
            for (special, id) in special.iter_mut().zip(ids) {
                *special |= (*id as u32).wrapping_sub(first) <= span;
            }
        }
    }

    /// Refuses an id outside the vocabulary.
    pub(super) fn check_ids(&self, ids: &[i64], row: usize) -> Result<()> {
        let bad = |id: i64| !(0..self.vocab_size).contains(&id);
        // No early exit, so that the loop is one vector comparison after another.
        if !ids.iter().fold(false, |any, id| any | bad(*id)) {
            return Ok(());
        }
        let column = ids.iter().position(|id| bad(*id)).unwrap_or(0);
        Err(Error::Shape(format!(
            "ids has {} at row {row}, column {column}, expected an id below vocab_size {}",
            ids[column], self.vocab_size
        )))
    }

    /// What stands at a masked position in the input.
    pub(super) fn replacement(&self, mut words: Words, original: i64) -> i64 {
        let kind = u64::from(words.next_u32());
        if kind < self.mask_below {
            self.mask_token
        } else if kind < self.random_below {
            let rank = words.below(self.random_count);
            let skipped = self.gaps.partition_point(|gap| *gap <= rank);
            self.random_start + i64::from(rank) + skipped as i64
        } else {
            original
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Key, Stream};

    fn options() -> Masking {
        Masking {
            probability: 0.5,
            replace: 0.0,
            random: 1.0,
            mask_token: 3,
            vocab_size: 10,
            special: vec![9, 0, 3, 1, 5, 3],
            random_range: (0, 10),
            pad: 0,
        }
    }

    #[test]
    fn random_ids_cover_the_ordinary_ids_evenly_and_nothing_else() {
        let plan = Plan::new(&options()).unwrap();
        assert_eq!(plan.special_runs, [(0, 1), (3, 3), (5, 5), (9, 9)]);
        let key = Key::new(5, 0, Stream::Mask);
        let mut counts = [0u32; 10];
        for sample in 0..50_000 {
            counts[plan.replacement(key.words_from(sample, 1), 4) as usize] += 1;
        }
        for id in [0, 1, 3, 5, 9] {
            assert_eq!(counts[id], 0);
        }
        // Binomial(50000, 1/5): mean 10000, standard deviation 89.
        for id in [2, 4, 6, 7, 8] {
            assert!((9_500..10_500).contains(&counts[id]), "{counts:?}");
        }
    }

    #[test]
    fn options_outside_their_domain_are_named() {
        type Change = fn(&mut Masking);
        let cases: [(Change, &str); 9] = [
            (|o| o.probability = f64::NAN, "mlm_probability"),
            (|o| o.replace = -0.1, "mask_replace_prob"),
            (|o| o.replace = 0.5, "mask_replace_prob + random_replace_prob"),
            (|o| o.vocab_size = 0, "vocab_size"),
            (|o| o.mask_token = 10, "mask_token_id"),
            (|o| o.pad = -1, "pad_token_id"),
            (|o| o.special.push(10), "special_token_ids"),
            (|o| o.random_range = (4, 11), "random_token_range"),
            (|o| o.random_range = (0, 2), "random_token_range"),
        ];
        for (change, name) in cases {
            let mut options = options();
            change(&mut options);
            let message = Plan::new(&options).err().expect(name).to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }
}
