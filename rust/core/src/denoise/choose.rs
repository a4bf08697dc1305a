//! Choosing k distinct items of n, uniformly over all subsets.

use crate::rng::Words;

/// Reused memory of the choices of one thread.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    bits: Vec<u64>,
}

impl Chosen {
    /// Chooses `k` of `0..n`: Floyd's algorithm (Bentley and Floyd, CACM 30(9), 1987).
    ///
    /// For `j` in `n - k .. n`, draw `t` below `j + 1`, and take `t`, or `j` where `t` was taken
    /// before. It spends `k` draws, and needs no shuffle and, with bits, no sort.
    pub(crate) fn draw(&mut self, words: &mut Words, k: usize, n: usize) {
        debug_assert!(k <= n && n < 1 << 32);
        self.bits.clear();
        self.bits.resize(n.div_ceil(64), 0);
        for j in n - k..n {
            let t = words.below(j as u32 + 1) as usize;
            let taken = self.bits[t / 64] >> (t % 64) & 1 != 0;
            let item = if taken { j } else { t };
            self.bits[item / 64] |= 1 << (item % 64);
        }
    }

    /// The chosen items, ascending.
    pub(crate) fn items(&self) -> impl Iterator<Item = usize> {
        self.bits.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    index * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Key, Stream};

    #[test]
    fn every_subset_is_equally_likely() {
        let key = Key::new(11, 0, Stream::Spans);
        let mut chosen = Chosen::default();
        let mut counts = std::collections::BTreeMap::new();
        for sample in 0..35_000 {
            chosen.draw(&mut key.words_from(sample, 0), 3, 7);
            *counts.entry(chosen.items().collect::<Vec<_>>()).or_insert(0u32) += 1;
        }
        // 35 subsets of 1000 each: chi-square has 34 degrees of freedom, its 1e-6 quantile is 86.
        assert_eq!(counts.len(), 35);
        let chi: f64 = counts.values().map(|c| (f64::from(*c) - 1e3).powi(2) / 1e3).sum();
        assert!(chi < 86.0, "{chi}");
    }

    #[test]
    fn all_and_none_can_be_chosen() {
        let key = Key::new(1, 0, Stream::Spans);
        let mut chosen = Chosen::default();
        for n in [0, 1, 63, 64, 65, 200] {
            chosen.draw(&mut key.words_from(0, 0), n, n);
            assert!(chosen.items().eq(0..n));
            chosen.draw(&mut key.words_from(0, 0), 0, n);
            assert_eq!(chosen.items().count(), 0);
        }
    }
}
