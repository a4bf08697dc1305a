//! The noise of METRO-T0's T5 baseline: `generate_masks` of gonglinyuan/metro_t0,
//! `fairseq/data/t5_dataset.py` (arXiv 2305.12567).

use super::draws::Draws;
use super::subset::Subset;
use crate::simd::Lanes;
use crate::{Result, memory};

/// Memory that the rows of a thread share, and the empty spans of the last row.
pub(super) struct MetroSpans {
    subset: Subset,
    growing: Vec<u32>,
    candidates: Vec<u32>,
    empty: Vec<u32>,
}

impl MetroSpans {
    pub(super) fn new() -> Self {
        Self {
            subset: Subset::new(),
            growing: Vec::new(),
            candidates: Vec::new(),
            empty: Vec::new(),
        }
    }

    /// Makes room for the longest row.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] if there is not enough memory.
    pub(super) fn reserve(&mut self, longest: usize) -> Result<()> {
        self.subset.reserve(longest)?;
        memory::grow(&mut self.growing, longest)?;
        memory::grow(&mut self.candidates, longest)?;
        memory::grow(&mut self.empty, longest)
    }

    /// Sets the bits of the spans. Starts are drawn without replacement; then, `longest - 1` times, a
    /// random part of the spans grows by one token, so that their lengths are uniform.
    #[inline(always)]
    pub(super) fn grow<L: Lanes>(
        &mut self,
        draws: &mut Draws,
        bits: &mut [u64],
        length: usize,
        density: f64,
        empty: f64,
        longest: u32,
        wrap: bool,
    ) {
        let mean = f64::midpoint(1.0, f64::from(longest));
        let starts = density * (1.0 - empty) * length as f64 / mean + draws.uniform::<L>();
        let mut count = (starts.floor() as usize).min(length);
        self.subset.draw::<L>(draws, count, length);
        self.growing.clear();
        self.growing.extend_from_slice(self.subset.items::<L>());
        set(bits, &self.growing);
        for step in 0..longest - 1 {
            let share = 1.0 - 1.0 / f64::from(longest - step);
            let grown = count as f64 * share + draws.uniform::<L>();
            count = (grown.floor() as usize).min(self.growing.len());
            self.subset.draw::<L>(draws, count, self.growing.len());
            let mut kept = 0;
            for item in self.subset.items::<L>() {
                let next = self.growing[*item as usize] + 1;
                if next as usize == length && !wrap {
                    continue;
                }
                self.growing[kept] = if next as usize == length { 0 } else { next };
                kept += 1;
            }
            self.growing.truncate(kept);
            set(bits, &self.growing);
        }
    }

    /// Chooses the positions that follow an empty span. Neither they nor their neighbors are noise.
    #[inline(always)]
    pub(super) fn choose_empty<L: Lanes>(
        &mut self,
        draws: &mut Draws,
        bits: &[u64],
        length: usize,
        density: f64,
        empty: f64,
    ) {
        self.empty.clear();
        if empty == 0.0 {
            return;
        }
        let masked: u32 = bits.iter().map(|word| word.count_ones()).sum();
        let noise = density * length as f64;
        let missing = (noise - f64::from(masked) + draws.uniform::<L>()).floor().max(0.0);
        let wanted = missing.min((noise * empty + 1.0).floor()) as usize;
        let masked = |token: usize| bits[token / 64] >> (token % 64) & 1 != 0;
        self.candidates.clear();
        for token in 0..length {
            let before = token > 0 && masked(token - 1);
            let after = token + 1 < length && masked(token + 1);
            if !(before || masked(token) || after) {
                self.candidates.push(token as u32);
            }
        }
        self.subset.draw::<L>(draws, wanted.min(self.candidates.len()), self.candidates.len());
        let items = self.subset.items::<L>();
        self.empty.extend(items.iter().map(|item| self.candidates[*item as usize]));
    }

    /// Merges the boundaries of the spans with the empty ones.
    pub(super) fn join(
        &self,
        edges: &[u32],
        length: usize,
        keep: &mut Vec<u32>,
        noise: &mut Vec<u32>,
    ) {
        let mut empty = self.empty.iter().peekable();
        let mut previous = 0;
        for pair in edges.as_chunks::<2>().0 {
            while let Some(at) = empty.next_if(|at| **at < pair[0]) {
                keep.push(at - previous);
                noise.push(0);
                previous = *at;
            }
            keep.push(pair[0] - previous);
            noise.push(pair[1] - pair[0]);
            previous = pair[1];
        }
        for at in empty {
            keep.push(at - previous);
            noise.push(0);
            previous = *at;
        }
        keep.push(length as u32 - previous);
    }
}

fn set(bits: &mut [u64], positions: &[u32]) {
    for position in positions {
        bits[*position as usize / 64] |= 1 << (position % 64);
    }
}
