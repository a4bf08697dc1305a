//! Kinds of noise: turns random words into runs of kept and noise tokens.

use super::counts::{Billionths, SpanCounts};
use super::denoiser::Noise;
use super::draws::{Bound, Draws};
use super::metro_spans::MetroSpans;
use super::span_lengths::SpanLengths;
use super::subset::{Subset, read_bits, read_room};
use crate::simd::Lanes;
use crate::{Result, memory};

/// Memory that the rows of a thread share, and the runs of the last row.
///
/// A row is `keep[0]` kept tokens, `noise[0]` noise tokens, `keep[1]`, `noise[1]`, and so on; there
/// is one more kept run than noise spans. A span may be empty and still has a sentinel.
pub(super) struct Runs {
    pub(super) keep: Vec<u32>,
    pub(super) noise: Vec<u32>,
    subset: Subset,
    bits: Vec<u64>,
    edges: Vec<u32>,
    metro: MetroSpans,
}

impl Runs {
    pub(super) fn new() -> Self {
        Self {
            keep: Vec::new(),
            noise: Vec::new(),
            subset: Subset::new(),
            bits: Vec::new(),
            edges: Vec::new(),
            metro: MetroSpans::new(),
        }
    }

    /// Makes room for the longest row, so that no row needs to allocate.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if there is not enough memory.
    pub(super) fn reserve(&mut self, longest: usize, metro: bool) -> Result<()> {
        // Spans are in different gaps between tokens, before the first and after the last.
        memory::grow(&mut self.keep, longest + 2)?;
        memory::grow(&mut self.noise, longest + 2)?;
        self.subset.reserve(longest + 1)?;
        memory::grow(&mut self.bits, longest.div_ceil(64) + 1)?;
        memory::grow(&mut self.edges, read_room(longest) + 64)?;
        if metro { self.metro.reserve(longest) } else { Ok(()) }
    }

    /// Draws the runs of a row of `length` tokens, with at most `most` spans. Tokens in `special` are
    /// never noise.
    #[inline(always)]
    pub(super) fn draw<L: Lanes>(
        &mut self,
        law: &Noise,
        draws: &mut Draws,
        length: usize,
        special: Option<&[u64]>,
        most: usize,
    ) {
        self.keep.clear();
        self.noise.clear();
        match law {
            Noise::RandomSpans { density, mean, compat } => {
                let counts = SpanCounts::of(length, *density, *mean, *compat);
                let (noise, spans) = (counts.noise, counts.spans.min(most));
                if spans > 0 {
                    draws.expect(5 * spans / 2);
                    compose::<L>(&mut self.subset, draws, noise, spans, &mut self.noise);
                    compose::<L>(&mut self.subset, draws, length - noise, spans, &mut self.keep);
                    self.keep.push(0);
                }
            }
            Noise::Iid { density } => {
                self.iid::<L>(draws, length, density.of_words());
                self.read_bits::<L>(length);
            }
            Noise::RegularSpans { density, shortest, longest } => {
                let span = shortest + draws.below::<L>(Bound::new(longest - shortest + 1));
                let period = density.quotient(span as usize).max(1);
                let offset = draws.below::<L>(Bound::new(period as u32)) as usize;
                self.repeat(length, span as usize, period, offset);
                self.read_bits::<L>(length);
            }
            Noise::Prefix { density } => self.prefix::<L>(draws, length, *density),
            Noise::SampledSpans { density, lengths } => {
                let total = density.noise_of(length);
                self.sample::<L>(draws, lengths, total, most.min(length - total + 1));
                self.spread::<L>(draws, length - total);
            }
            Noise::MetroT0 { density, empty, longest, upstream } => {
                self.clear_bits(length);
                let (density, bits) = (density.value(), &mut self.bits);
                self.metro.grow::<L>(draws, bits, length, density, *empty, *longest, *upstream);
                clear_special(bits, special);
                self.metro.choose_empty::<L>(draws, bits, length, density, *empty);
                let edges = boundaries::<L>(&mut self.bits, length, &mut self.edges);
                self.metro.join(edges, length, &mut self.keep, &mut self.noise);
            }
        }
        if !matches!(law, Noise::MetroT0 { .. }) && special.is_some() {
            self.keep_special::<L>(length, special);
        }
        if self.keep.is_empty() {
            self.keep.push(length as u32);
        }
        self.merge_after(most);
    }

    /// Takes the runs of a mask.
    #[inline(always)]
    pub(super) fn take<L: Lanes>(&mut self, mask: &[u8], most: usize) {
        self.keep.clear();
        self.noise.clear();
        self.clear_bits(mask.len());
        for (token, noise) in mask.iter().enumerate() {
            self.bits[token / 64] |= u64::from(*noise != 0) << (token % 64);
        }
        self.read_bits::<L>(mask.len());
        self.merge_after(most);
    }

    /// Sets the bits of the first `span` of every `period` tokens, where the row starts at `offset`.
    #[inline(always)]
    fn repeat(&mut self, length: usize, span: usize, period: usize, offset: usize) {
        self.clear_bits(length);
        for token in 0..length {
            let noise = (token + offset) % period < span;
            self.bits[token / 64] |= u64::from(noise) << (token % 64);
        }
    }

    /// Draws the lengths of at most `most` spans, which have `total` tokens together.
    #[inline(always)]
    fn sample<L: Lanes>(
        &mut self,
        draws: &mut Draws,
        lengths: &SpanLengths,
        total: usize,
        most: usize,
    ) {
        let mut left = total;
        while left > 0 {
            let mut span = lengths.of(draws.next::<L>()).min(left);
            if self.noise.len() + 1 == most {
                span = left;
            }
            self.noise.push(span as u32);
            left -= span;
        }
    }

    /// Draws the length of a prefix, and makes all tokens after it noise.
    #[inline(always)]
    fn prefix<L: Lanes>(&mut self, draws: &mut Draws, length: usize, density: Billionths) {
        let most = length - 1;
        let fewest = density.rest_of_twice(most).max(1).min(most);
        let range = Bound::new((most - fewest) as u32 + 1);
        let kept = if length < 2 { 1 } else { fewest + draws.below::<L>(range) as usize };
        self.keep.push(kept as u32);
        if kept < length {
            self.noise.push((length - kept) as u32);
            self.keep.push(0);
        }
    }

    fn clear_bits(&mut self, length: usize) {
        self.bits.clear();
        self.bits.resize(length.div_ceil(64), 0);
    }

    #[inline(always)]
    fn iid<L: Lanes>(&mut self, draws: &mut Draws, length: usize, below: u64) {
        self.clear_bits(length);
        draws.expect(length);
        for (index, word) in self.bits.iter_mut().enumerate() {
            *word = draws.two_below::<L>(64.min(length - 64 * index), below, 0).0;
        }
    }

    /// Reads the runs from the bits.
    #[inline(always)]
    fn read_bits<L: Lanes>(&mut self, length: usize) {
        let edges = boundaries::<L>(&mut self.bits, length, &mut self.edges);
        let mut previous = 0;
        for pair in edges.as_chunks::<2>().0 {
            self.keep.push(pair[0] - previous);
            self.noise.push(pair[1] - pair[0]);
            previous = pair[1];
        }
        self.keep.push(length as u32 - previous);
    }

    /// Puts the spans into different gaps between `kept` tokens; every choice is equally likely.
    ///
    /// The last span was cut to the budget. A rotation by a random number of places moves the cut to a
    /// random place.
    #[inline(always)]
    fn spread<L: Lanes>(&mut self, draws: &mut Draws, kept: usize) {
        let spans = self.noise.len();
        if spans == 0 {
            return;
        }
        let places = draws.below::<L>(Bound::new(spans as u32));
        self.noise.rotate_left(places as usize);
        self.subset.draw::<L>(draws, spans, kept + 1);
        let mut previous = 0;
        for gap in self.subset.items::<L>() {
            self.keep.push(gap - previous);
            previous = *gap;
        }
        self.keep.push(kept as u32 - previous);
    }

    /// Removes special tokens from the noise.
    #[inline(always)]
    fn keep_special<L: Lanes>(&mut self, length: usize, special: Option<&[u64]>) {
        self.clear_bits(length);
        let mut token = 0;
        for (keep, noise) in self.keep.iter().zip(&self.noise) {
            token += *keep as usize;
            for token in token..token + *noise as usize {
                self.bits[token / 64] |= 1 << (token % 64);
            }
            token += *noise as usize;
        }
        clear_special(&mut self.bits, special);
        self.keep.clear();
        self.noise.clear();
        self.read_bits::<L>(length);
    }

    /// Keeps the tokens of the spans after the first `most`.
    fn merge_after(&mut self, most: usize) {
        if self.noise.len() > most {
            let rest: u32 = self.keep[most..].iter().chain(&self.noise[most..]).sum();
            self.noise.truncate(most);
            self.keep.truncate(most);
            self.keep.push(rest);
        }
    }
}

fn clear_special(bits: &mut [u64], special: Option<&[u64]>) {
    for (word, special) in bits.iter_mut().zip(special.unwrap_or_default()) {
        *word &= !special;
    }
}

/// The alternating starts and ends of runs of set bits; `bits` is overwritten.
#[inline(always)]
fn boundaries<'a, L: Lanes>(
    bits: &mut Vec<u64>,
    length: usize,
    edges: &'a mut Vec<u32>,
) -> &'a [u32] {
    if length.is_multiple_of(64) {
        // The end of a run that ends with the row is in another word.
        bits.push(0);
    }
    let mut carry = 0;
    for word in bits.iter_mut() {
        let next = *word >> 63;
        *word ^= *word << 1 | carry;
        carry = next;
    }
    read_bits::<L>(bits, edges)
}

/// Appends the lengths of `parts` non-empty parts of `total`; every composition is equally likely.
#[inline(always)]
fn compose<L: Lanes>(
    subset: &mut Subset,
    draws: &mut Draws,
    total: usize,
    parts: usize,
    lengths: &mut Vec<u32>,
) {
    subset.draw::<L>(draws, parts - 1, total - 1);
    let ends = subset.items::<L>();
    let last = ends.last().map_or(0, |end| end + 1);
    if let Some(first) = ends.first() {
        lengths.push(first + 1);
    }
    lengths.extend(ends.windows(2).map(|pair| pair[1] - pair[0]));
    lengths.push(total as u32 - last);
}
