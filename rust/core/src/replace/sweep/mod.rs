//! A sweep over the vocabulary: what a head needs from logits that are never stored.
//!
//! For each row it keeps the greatest logit and the sum of the weights relative to it (and so the
//! logsumexp), the likeliest token, the sum of the logits, and a token that is drawn. The draw is a
//! reservoir of size 1 over tiles: the token drawn in a tile replaces the one before with the
//! probability of the tile among those seen so far. All of it is integers after the distances, as
//! in [`crate::softmax`], so that equal logits in equal tiles give equal tokens everywhere.

mod mass;
#[cfg(test)]
mod tests;

pub use mass::Mass;

use super::logits::Logit;
use super::sample::Draws;
use super::sampling::Sampling;
use crate::interrupt::point;
use crate::simd::weights::BLOCK;
use crate::simd::{Job, Lanes, Level};
use crate::softmax::{below, distance, scale, weight};
use crate::threads::for_each;
use crate::{Error, Result, memory};

/// The number of the random words that decide about block 0; those that draw in block b have its
/// number.
const DECIDING: u32 = 1 << 31;

/// The state of one row after some tiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowState {
    /// The mass of all logits, at temperature 1.
    pub mass: Mass,
    /// The first token with the greatest logit.
    pub best: i64,
    /// The logit of the target.
    pub target: f32,
    /// The sum of all logits.
    pub total: f64,
    /// The mass of the tokens that may be drawn, at the temperature of the draw.
    pub drawable: Mass,
    /// The token drawn so far, or -1.
    pub drawn: i64,
    /// Whether a logit is NaN or +Inf.
    pub bad: bool,
}

impl Default for RowState {
    fn default() -> Self {
        Self {
            mass: Mass::NONE,
            best: -1,
            target: f32::NAN,
            total: 0.0,
            drawable: Mass::NONE,
            drawn: -1,
            bad: false,
        }
    }
}

/// How a sweep draws.
#[derive(Clone, Copy, Debug)]
pub struct SweepDraw<'a> {
    /// The key, sample id and position of each row.
    pub draws: Draws<'a>,
    /// Which tokens may be drawn. The forbidden ones are in ascending order, and `top_k` is not
    /// looked at: the likeliest tokens are known after the sweep only.
    pub sampling: Sampling<'a>,
}

/// One tile of logits.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    /// `[rows, width]`.
    pub logits: &'a [f32],
    /// Number of tokens of the tile.
    pub width: usize,
    /// The first token of the tile, a multiple of 256.
    pub first: i64,
}

/// Adds a tile to the states of its rows.
///
/// # Errors
/// If sizes do not match, or the tile does not start at a block.
pub fn sweep_tile(
    tile: Tile,
    targets: &[i64],
    draw: Option<&SweepDraw>,
    level: Level,
    num_threads: usize,
    states: &mut [RowState],
) -> Result<()> {
    let Tile { logits, width, first } = tile;
    let rows = states.len();
    if rows.checked_mul(width) != Some(logits.len()) || targets.len() != rows {
        return Err(Error::Shape(format!(
            "logits holds {} numbers and targets {} for {rows} rows of {width} tokens",
            logits.len(),
            targets.len(),
        )));
    }
    if first < 0 || first % BLOCK as i64 != 0 {
        return Err(Error::argument("first", first, format!("a multiple of {BLOCK}")));
    }
    if rows == 0 || width == 0 {
        return Ok(());
    }
    let share = rows.div_ceil(num_threads.max(1));
    let shares = logits.chunks(share * width).zip(states.chunks_mut(share)).enumerate();
    let shares = memory::collect(shares)?;
    for_each(num_threads, shares, |(index, (logits, states))| {
        for (offset, (logits, state)) in logits.chunks_exact(width).zip(states).enumerate() {
            point(4 * width)?;
            let row = index * share + offset;
            let words = |block: u32| draw.map_or(0, |draw| draw.uniform(row, block));
            let draw = draw.map(|draw| RowDraw {
                words: &words,
                scale: scale(draw.sampling.temperature),
                forbidden: draw.sampling.forbidden,
                excluded: draw.sampling.excluded.and_then(|ids| ids.get(row)).copied(),
            });
            level.run(Visit { logits, first, target: targets[row], draw, state });
        }
        Ok(())
    })
}

impl SweepDraw<'_> {
    /// Returns 64 random bits.
    fn uniform(&self, row: usize, block: u32) -> u64 {
        let [low, high, _, _] = self.draws.words(row, block);
        u64::from(low) | u64::from(high) << 32
    }
}

/// The draw of one row.
#[derive(Clone, Copy)]
struct RowDraw<'a> {
    words: &'a dyn Fn(u32) -> u64,
    scale: f32,
    forbidden: &'a [i64],
    excluded: Option<i64>,
}

/// Adds a row's part of a tile to its state.
struct Visit<'a> {
    logits: &'a [f32],
    first: i64,
    target: i64,
    draw: Option<RowDraw<'a>>,
    state: &'a mut RowState,
}

impl Job for Visit<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { logits, first, target, draw, state } = self;
        let (one, mut buffer) = (scale(1.0), [0.0; BLOCK]);
        if let Some(logit) = usize::try_from(target - first).ok().and_then(|at| logits.get(at)) {
            state.target = *logit;
        }
        for (index, part) in logits.chunks(BLOCK).enumerate() {
            let start = first + (index * BLOCK) as i64;
            let Some(max) = f32::greatest(part) else {
                state.bad = true;
                continue;
            };
            state.total += sum(part);
            if max == f32::NEG_INFINITY {
                continue;
            }
            let block = f32::block(part, &mut buffer);
            let mass = Mass { max, sum: L::weights(block, max, one) };
            if max > state.mass.max {
                let place = part.iter().position(|logit| *logit >= max).unwrap_or(0);
                state.best = start + place as i64;
            }
            let (max, before, here) = state.mass.aligned(mass, one);
            state.mass = Mass { max, sum: before + here };
            if let Some(draw) = &draw {
                draw.visit::<L>(block, part.len(), start, mass, state);
            }
        }
    }
}

impl RowDraw<'_> {
    /// Draws from a block, and keeps the token with the probability of the block among those so
    /// far.
    #[inline(always)]
    fn visit<L: Lanes>(
        &self,
        block: &[f32; BLOCK],
        width: usize,
        start: i64,
        mut mass: Mass,
        state: &mut RowState,
    ) {
        let Self { words, scale, forbidden, excluded } = *self;
        let end = start + width as i64;
        let from = forbidden.partition_point(|id| *id < start);
        let to = forbidden.partition_point(|id| *id < end);
        let forbidden = forbidden.get(from..to).unwrap_or_default();
        let excluded = excluded.filter(|id| (start..end).contains(id));
        let mut kept;
        let block = if excluded.is_some() || !forbidden.is_empty() {
            kept = *block;
            for id in forbidden.iter().chain(&excluded) {
                kept[(*id - start) as usize] = f32::NEVER;
            }
            mass.max = kept.iter().fold(f32::NEG_INFINITY, |max, logit| max.max(*logit));
            mass.sum = 0;
            &kept
        } else {
            block
        };
        if mass.max == f32::NEG_INFINITY {
            return;
        }
        if mass.sum == 0 || scale.to_bits() != self::scale(1.0).to_bits() {
            mass.sum = L::weights(block, mass.max, scale);
        }
        let (max, before, here) = state.drawable.aligned(mass, scale);
        state.drawable = Mass { max, sum: before + here };
        let number = (start / BLOCK as i64) as u32;
        if here == 0 || below(words(DECIDING | number), before + here) < before {
            return;
        }
        let aim = below(words(number), mass.sum);
        let mut sum = 0;
        let place = block.iter().position(|logit| {
            sum += weight(distance(mass.max, *logit, scale));
            sum > aim
        });
        // The aim is below the sum of the block.
        state.drawn = place.map_or(state.drawn, |place| start + place as i64);
    }
}

/// Adds logits in f64, in eight lanes.
#[inline(always)]
fn sum(logits: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let (whole, rest) = logits.as_chunks::<8>();
    for eight in whole {
        for (lane, logit) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(*logit);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|logit| f64::from(*logit)).sum::<f64>()
}
