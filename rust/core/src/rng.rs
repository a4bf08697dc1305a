//! Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011), keyed by what is sampled.
//!
//! A draw is a pure function of (seed, epoch, operation, sample id, position, block). No state is
//! kept between calls, so batch composition, order, worker, thread, rank and resume point cannot
//! change a single bit.

/// First multiplier of Philox4x32.
const M0: u32 = 0xD251_1F53;
/// Second multiplier of Philox4x32.
const M1: u32 = 0xCD9E_8D57;
/// First Weyl constant (golden ratio).
const W0: u32 = 0x9E37_79B9;
/// Second Weyl constant (sqrt(3) - 1).
const W1: u32 = 0xBB67_AE85;

/// Computes ten rounds of Philox4x32 for one counter.
///
/// Published vector: counter and key 0 give `6627e8d5 e169c58d bc57ac4c 9b00dbd8`.
#[inline]
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [a, b, c, d] = counter;
    philox_lanes([[a], [b], [c], [d]], key).map(|[word]| word)
}

/// Computes ten rounds for `N` counters side by side: `counters[i][lane]` is word `i` of a lane's
/// counter.
///
/// A single counter waits for its own multiplications; several counters share the wait and form
/// vectors. Each word is stored in the low half of 64 bits, and the high half is never read, as the
/// vector multiplication of x86 (`pmuludq`) requires: packed words would be unpacked and packed in
/// every round.
#[inline(always)]
fn philox_lanes<const N: usize>(counters: [[u32; N]; 4], key: [u32; 2]) -> [[u32; N]; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counters.map(|words| words.map(u64::from));
    let low = |word: u64| word & 0xFFFF_FFFF;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        for lane in 0..N {
            let p0 = u64::from(M0) * low(c0[lane]);
            let p1 = u64::from(M1) * low(c2[lane]);
            c0[lane] = (p1 >> 32) ^ c1[lane] ^ u64::from(k0);
            c2[lane] = (p0 >> 32) ^ c3[lane] ^ u64::from(k1);
            c1[lane] = p1;
            c3[lane] = p0;
        }
        k0 = k0.wrapping_add(W0);
        k1 = k1.wrapping_add(W1);
    }
    [c0, c1, c2, c3].map(|words| words.map(|word| word as u32))
}

/// The operation that draws. Two operations on the same sample never share a random word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Lengths of noise spans and of the kept runs between them.
    Spans = 1,
    /// Positions, kinds and random ids of masked tokens.
    Mask = 2,
    /// Replacement tokens from logits.
    Replace = 3,
    /// The window into which a long document is cropped.
    Crop = 4,
    /// The order of the samples of an epoch.
    Order = 5,
    /// The denoiser of a mixture that a sample gets.
    Mixture = 6,
    /// The kind of replacement for a masked token.
    Kind = 7,
}

/// Computes blocks `block..block + N` of (id, position) side by side: `[word][block]`.
#[inline(always)]
pub(crate) fn philox_blocks<const N: usize>(
    key: Key,
    id: u64,
    position: u32,
    block: u32,
) -> [[u32; N]; 4] {
    let blocks: [u32; N] = std::array::from_fn(|lane| block.wrapping_add(lane as u32));
    philox_lanes([blocks, [position; N], [id as u32; N], [(id >> 32) as u32; N]], key.0)
}

/// The key for one (seed, epoch, operation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    /// Derives the key: the first two words of Philox for the counter (epoch low, epoch high,
    /// operation, 0) and the key (seed low, seed high).
    ///
    /// Because the epoch is hashed into the key, the whole 128-bit counter is available to the
    /// sample.
    #[must_use]
    pub fn new(seed: u64, epoch: u64, stream: Stream) -> Self {
        let counter = [epoch as u32, (epoch >> 32) as u32, stream as u32, 0];
        let [a, b, _, _] = philox4x32_10(counter, [seed as u32, (seed >> 32) as u32]);
        Self([a, b])
    }

    /// Returns block `block` of the words of (sample id, position).
    #[inline]
    #[must_use]
    pub fn words(self, sample_id: u64, position: u32, block: u32) -> [u32; 4] {
        philox4x32_10([block, position, sample_id as u32, (sample_id >> 32) as u32], self.0)
    }

    /// Returns block 0 of the words of several positions of one sample: `[word][position]`.
    #[inline(always)]
    #[must_use]
    pub fn words_at<const N: usize>(self, sample_id: u64, positions: [u32; N]) -> [[u32; N]; 4] {
        let (low, high) = (sample_id as u32, (sample_id >> 32) as u32);
        philox_lanes([[0; N], positions, [low; N], [high; N]], self.0)
    }

    /// Returns word 0 of one position of several samples.
    #[inline]
    #[must_use]
    pub fn word_of<const N: usize>(self, sample_ids: [u64; N], position: u32) -> [u32; N] {
        let halves = [sample_ids.map(|id| id as u32), sample_ids.map(|id| (id >> 32) as u32)];
        philox_lanes([[0; N], [position; N], halves[0], halves[1]], self.0)[0]
    }

    /// Returns the sequence of words of (sample id, position).
    #[must_use]
    pub fn words_from(self, sample_id: u64, position: u32) -> Words {
        let buffer = [0; 4 * Words::BLOCKS];
        Words { key: self, sample_id, position, block: 0, buffer, used: buffer.len() }
    }

    /// Returns the same sequence as [`Self::words_from`], given its block 0 from
    /// [`Self::words_at`].
    #[inline]
    #[must_use]
    pub fn words_known(self, sample_id: u64, position: u32, first: [u32; 4]) -> Words {
        let mut buffer = [0; 4 * Words::BLOCKS];
        let used = buffer.len() - first.len();
        buffer[used..].copy_from_slice(&first);
        Words { key: self, sample_id, position, block: 1, buffer, used }
    }
}

/// The words of one (key, sample id, position), in counter order.
#[derive(Clone, Debug)]
pub struct Words {
    key: Key,
    sample_id: u64,
    position: u32,
    block: u32,
    buffer: [u32; 4 * Self::BLOCKS],
    used: usize,
}

impl Words {
    /// Number of blocks that are computed side by side.
    const BLOCKS: usize = 4;

    /// Computes the next blocks.
    #[inline(never)]
    fn refill(&mut self) {
        let blocks: [u32; Self::BLOCKS] = std::array::from_fn(|lane| self.block + lane as u32);
        let (low, high) = (self.sample_id as u32, (self.sample_id >> 32) as u32);
        let counters = [blocks, [self.position; _], [low; _], [high; _]];
        let words = philox_lanes(counters, self.key.0);
        for (place, word) in self.buffer.iter_mut().enumerate() {
            *word = words[place % 4][place / 4];
        }
        self.block += Self::BLOCKS as u32;
        self.used = 0;
    }

    /// Returns the next 32 random bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.used == self.buffer.len() {
            self.refill();
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// Draws uniformly from `0..bound`, without bias (Lemire 2019: multiply, and reject the short
    /// remainder).
    ///
    /// `bound` must be positive.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        debug_assert!(bound > 0);
        let mut product = u64::from(self.next_u32()) * u64::from(bound);
        if (product as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(bound);
            }
        }
        (product >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_published_vectors() {
        let max = u32::MAX;
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([max; 4], [max; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ] {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn blocks_side_by_side_are_the_blocks_one_by_one() {
        let key = Key::new(1, 2, Stream::Mask);
        let mut words = key.words_from(1 << 40 | 3, 4);
        for block in 0..11 {
            for word in key.words(1 << 40 | 3, 4, block) {
                assert_eq!(words.next_u32(), word);
            }
        }
        let lanes = key.words_at(9, [5, 6, 7]);
        for lane in 0..3 {
            let expected = key.words(9, 5 + lane as u32, 0);
            assert_eq!(lanes.map(|word| word[lane]), expected);
        }
        let samples = [1, 1 << 40 | 3, u64::MAX];
        assert_eq!(key.word_of(samples, 6), samples.map(|id| key.words(id, 6, 0)[0]));
    }

    #[test]
    fn below_is_unbiased_where_the_bound_does_not_divide() {
        // With 3 * 2^30 the biased method would draw the low third twice as often.
        let bound = 3 << 30;
        let mut words = Key::new(1, 2, Stream::Mask).words_from(3, 4);
        let low = (0..30_000).filter(|_| words.below(bound) < 1 << 30).count();
        // Binomial(30000, 1/3): mean 10000, standard deviation 82.
        assert!((9_600..10_400).contains(&low), "{low}");
    }

    #[test]
    fn streams_epochs_samples_and_positions_differ() {
        let base = Key::new(7, 0, Stream::Spans).words(5, 6, 0);
        assert_ne!(base, Key::new(7, 0, Stream::Mask).words(5, 6, 0));
        assert_ne!(base, Key::new(7, 1, Stream::Spans).words(5, 6, 0));
        assert_ne!(base, Key::new(8, 0, Stream::Spans).words(5, 6, 0));
        assert_ne!(base, Key::new(7, 0, Stream::Spans).words(6, 6, 0));
        assert_ne!(base, Key::new(7, 0, Stream::Spans).words(5, 7, 0));
    }
}
