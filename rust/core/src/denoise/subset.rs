//! Choosing k distinct items of n, uniformly over all subsets.

use super::draws::{Bound, Draws};
use crate::simd::{Lanes, SLACK};
use crate::{Result, memory};

/// Number of copies of the bits, in which draws are set by turns.
const COPIES: usize = 4;

/// A subset of `0..n`, in memory that the rows of a thread share.
#[derive(Debug)]
pub(super) struct Subset {
    bits: Vec<u64>,
    copies: Vec<u64>,
    items: Vec<u32>,
    bound: Bound,
    n: usize,
}

impl Subset {
    pub(super) fn new() -> Self {
        Self { bits: Vec::new(), copies: Vec::new(), items: Vec::new(), bound: Bound::new(1), n: 1 }
    }

    /// Makes room for subsets of `0..n`.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if there is not enough memory.
    pub(super) fn reserve(&mut self, n: usize) -> Result<()> {
        memory::grow(&mut self.bits, n.div_ceil(64))?;
        memory::grow(&mut self.copies, COPIES * n.div_ceil(64))?;
        memory::grow(&mut self.items, read_room(n))
    }

    /// Chooses `k` of `0..n`: items are drawn until there are `k` different ones. If `k` is more than
    /// half of `n`, the items that are left out are drawn instead.
    ///
    /// In Floyd's algorithm, every step looks up what the last one stored; here, all but the last few
    /// draws are set without a look. To choose 27 of 482 and 27 of 84 takes 40 ns; Floyd's takes 116.
    #[inline(always)]
    pub(super) fn draw<L: Lanes>(&mut self, draws: &mut Draws, k: usize, n: usize) {
        debug_assert!(k <= n && n < 1 << 32);
        self.clear(n);
        let wanted = k.min(n - k);
        if wanted > 0 {
            if self.n != n {
                (self.n, self.bound) = (n, Bound::new(n as u32));
            }
            self.fill::<L>(draws, wanted);
        }
        if wanted != k {
            for word in &mut self.bits {
                *word = !*word;
            }
            if !n.is_multiple_of(64) {
                let last = self.bits.len() - 1;
                self.bits[last] &= (1 << (n % 64)) - 1;
            }
        }
    }

    /// Empties it, for a caller that sets the bits of `0..n` itself.
    pub(super) fn clear(&mut self, n: usize) -> &mut [u64] {
        self.bits.clear();
        self.bits.resize(n.div_ceil(64), 0);
        &mut self.bits
    }

    #[inline(always)]
    fn fill<L: Lanes>(&mut self, draws: &mut Draws, wanted: usize) {
        // Neighbors use different copies of the bits, so that they need not wait for each other.
        self.copies.clear();
        self.copies.resize(COPIES * self.bits.len(), 0);
        let (bits, copies) = (self.bits.as_mut_slice(), self.copies.as_mut_slice());
        let mut missing = wanted;
        while missing > 0 {
            let ready = draws.ready::<L>();
            let ready = &ready[..missing.min(ready.len())];
            let (groups, rest) = ready.as_chunks::<COPIES>();
            let mut rejected = 0;
            let mut set = |word: u32, copy: usize| match self.bound.of(word) {
                Some(item) => copies[COPIES * (item as usize / 64) + copy] |= 1 << (item % 64),
                None => rejected += 1,
            };
            for group in groups {
                for (copy, word) in group.iter().enumerate() {
                    set(*word, copy);
                }
            }
            for word in rest {
                set(*word, 0);
            }
            let count = ready.len();
            missing -= count - rejected;
            draws.use_up(count);
        }
        for (word, copies) in bits.iter_mut().zip(copies.as_chunks::<COPIES>().0) {
            *word = copies.iter().fold(0, |all, copy| all | copy);
        }
        let mut count: usize = bits.iter().map(|word| word.count_ones() as usize).sum();
        while count < wanted {
            let item = draws.below::<L>(self.bound);
            let word = &mut bits[item as usize / 64];
            let with = *word | 1 << (item % 64);
            count += usize::from(with != *word);
            *word = with;
        }
    }

    /// The bits of the subset.
    #[inline(always)]
    pub(super) fn bits(&self) -> &[u64] {
        &self.bits
    }

    /// The items, ascending.
    #[inline(always)]
    pub(super) fn items<L: Lanes>(&mut self) -> &[u32] {
        read_bits::<L>(&self.bits, &mut self.items)
    }
}

/// The number of items for which [`read_bits`] needs room where there are `n` bits.
pub(super) fn read_room(n: usize) -> usize {
    64 * n.div_ceil(64) + SLACK
}

/// The set bits of `bits`, ascending, in memory that grows once.
#[inline(always)]
pub(super) fn read_bits<'a, L: Lanes>(bits: &[u64], items: &'a mut Vec<u32>) -> &'a [u32] {
    let needed = 64 * bits.len() + SLACK;
    if items.len() < needed {
        items.resize(needed, 0);
    }
    let count = L::positions(bits, items);
    &items[..count]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Key, Stream};
    use crate::simd::{Job, Level};

    struct Choose(u64, usize, usize);

    impl Job for Choose {
        type Output = Vec<Vec<u32>>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<Vec<u32>> {
            let mut draws = Draws::new(Key::new(11, 0, Stream::Spans));
            let mut subset = Subset::new();
            (0..self.0)
                .map(|sample| {
                    draws.start(sample);
                    subset.draw::<L>(&mut draws, self.1, self.2);
                    subset.items::<L>().to_vec()
                })
                .collect()
        }
    }

    #[test]
    fn every_subset_is_equally_likely() {
        for k in [3, 4] {
            let mut counts = std::collections::BTreeMap::new();
            for items in Level::Scalar.run(Choose(35_000, k, 7)) {
                *counts.entry(items).or_insert(0u32) += 1;
            }
            // 35 subsets of 1000 each: chi-square has 34 degrees of freedom, its 1e-6 quantile is 86.
            assert_eq!(counts.len(), 35);
            let chi: f64 = counts.values().map(|c| (f64::from(*c) - 1e3).powi(2) / 1e3).sum();
            assert!(chi < 86.0, "{chi}");
        }
    }

    #[test]
    fn all_levels_choose_alike_and_any_number_can_be_chosen() {
        for n in [0usize, 1, 2, 63, 64, 65, 200, 1000] {
            for k in [0, 1, n / 2, n / 2 + 1, n.saturating_sub(1), n] {
                if k > n {
                    continue;
                }
                let expected = Level::Scalar.run(Choose(5, k, n));
                assert!(expected.iter().all(|items| items.len() == k && items.is_sorted()));
                assert!(expected.iter().flatten().all(|item| (*item as usize) < n));
                for level in [Level::Avx2, Level::Avx512] {
                    assert_eq!(level.run(Choose(5, k, n)), expected);
                }
            }
        }
    }
}
