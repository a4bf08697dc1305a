//! The random words of one sample, many at a time.

use crate::rng::Key;
use crate::simd::Lanes;

/// A bound with the threshold below which Lemire's method rejects a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    bound: u32,
    threshold: u32,
}

impl Bound {
    /// Prepares draws below `bound`, which must be positive; this is their only division.
    pub(super) fn new(bound: u32) -> Self {
        Self { bound, threshold: bound.wrapping_neg() % bound }
    }

    /// The number that a word encodes, or nothing for the few words that would bias it.
    #[inline(always)]
    pub(super) fn of(self, word: u32) -> Option<u32> {
        let product = u64::from(word) * u64::from(self.bound);
        (product as u32 >= self.threshold).then_some((product >> 32) as u32)
    }
}

/// The words of (key, sample id, position 0), in the order of `rng::Words`, whole vectors at a time.
pub(super) struct Draws {
    key: Key,
    sample_id: u64,
    block: u32,
    words: [u32; 64],
    used: usize,
    filled: usize,
    /// Number of words that the caller expects to need.
    expected: usize,
}

impl Draws {
    pub(super) fn new(key: Key) -> Self {
        Self { key, sample_id: 0, block: 0, words: [0; 64], used: 0, filled: 0, expected: 0 }
    }

    /// Goes to the first word of a sample.
    #[inline(always)]
    pub(super) fn start(&mut self, sample_id: u64) {
        (self.sample_id, self.block, self.used, self.filled) = (sample_id, 0, 0, 0);
        self.expected = 0;
    }

    /// Announces how many words the sample will need, so that few others are computed.
    #[inline(always)]
    pub(super) fn expect(&mut self, words: usize) {
        self.expected = words;
    }

    /// The words that are not used yet, at least one. The caller reports to `use_up` how many it took.
    #[inline(always)]
    pub(super) fn ready<L: Lanes>(&mut self) -> &[u32] {
        if self.used == self.filled {
            let (key, id, block) = (self.key, self.sample_id, self.block);
            self.filled = L::words(key, id, 0, block, self.expected, &mut self.words);
            self.expected = self.expected.saturating_sub(self.filled);
            self.block += (self.filled / 4) as u32;
            self.used = 0;
        }
        &self.words[self.used..self.filled]
    }

    #[inline(always)]
    pub(super) fn use_up(&mut self, count: usize) {
        self.used += count;
    }

    /// The bits of the next `count` words, at most 64, that are below `bound`, and below `second`.
    #[inline(always)]
    pub(super) fn two_below<L: Lanes>(
        &mut self,
        count: usize,
        bound: u64,
        second: u64,
    ) -> (u64, u64) {
        let (mut bits, mut others, mut at) = (0, 0, 0);
        while at < count {
            self.ready::<L>();
            let (used, taken) = (self.used, (self.filled - self.used).min(count - at));
            let some = if taken == 64 { u64::MAX } else { (1 << taken) - 1 };
            bits |= (L::below(&self.words, bound) >> used & some) << at;
            others |= (L::below(&self.words, second) >> used & some) << at;
            at += taken;
            self.use_up(taken);
        }
        (bits, others)
    }

    /// The next 32 random bits.
    #[inline(always)]
    pub(super) fn next<L: Lanes>(&mut self) -> u32 {
        let word = self.ready::<L>()[0];
        self.use_up(1);
        word
    }

    /// Uniform on `[0, 1)`, in steps of 2^-32.
    #[inline(always)]
    pub(super) fn uniform<L: Lanes>(&mut self) -> f64 {
        f64::from(self.next::<L>()) / 4_294_967_296.0
    }

    /// Uniform below a bound, without bias (Lemire 2019); `rng::Words::below` draws the same.
    #[inline(always)]
    pub(super) fn below<L: Lanes>(&mut self, bound: Bound) -> u32 {
        loop {
            if let Some(number) = bound.of(self.next::<L>()) {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, Words};
    use crate::simd::{Job, Level};

    struct Mixed;

    impl Job for Mixed {
        type Output = Vec<u32>;
        #[inline(always)]
        fn run<L: Lanes>(self) -> Vec<u32> {
            let mut draws = Draws::new(Key::new(3, 1, Stream::Spans));
            draws.start(77);
            draws.expect(100);
            (0..300)
                .map(|i| {
                    if i % 2 == 0 {
                        draws.next::<L>()
                    } else {
                        draws.below::<L>(Bound::new(3 << 30))
                    }
                })
                .collect()
        }
    }

    #[test]
    fn draws_are_the_words_of_the_sample() {
        let mut words: Words = Key::new(3, 1, Stream::Spans).words_from(77, 0);
        let expected: Vec<u32> = (0..300)
            .map(|i| if i % 2 == 0 { words.next_u32() } else { words.below(3 << 30) })
            .collect();
        for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
            assert_eq!(level.run(Mixed), expected);
        }
    }
}
