//! A sweep over the vocabulary, tile by tile: what a head needs from logits that are never stored.
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
use crate::softmax::{distance, scale, weight};
use crate::threads::for_each;
use crate::{Error, Result, memory};

/// The block of random numbers that decides about tile 0; those of the tokens of tile t are t.
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
    /// The first token of the tile.
    pub first: i64,
    /// The number of the tile, in the order of the sweep.
    pub number: u32,
}

/// Adds a tile to the states of its rows.
///
/// # Errors
/// If sizes do not match.
pub fn sweep_tile(
    tile: Tile,
    targets: &[i64],
    draw: Option<&SweepDraw>,
    level: Level,
    num_threads: usize,
    states: &mut [RowState],
) -> Result<()> {
    let rows = states.len();
    if rows.checked_mul(tile.width) != Some(tile.logits.len()) || targets.len() != rows {
        return Err(Error::Shape(format!(
            "logits holds {} numbers and targets {} for {rows} rows of {} tokens",
            tile.logits.len(),
            targets.len(),
            tile.width
        )));
    }
    if rows == 0 || tile.width == 0 {
        return Ok(());
    }
    let share = rows.div_ceil(num_threads.max(1));
    let shares = tile.logits.chunks(share * tile.width).zip(states.chunks_mut(share)).enumerate();
    let shares = memory::collect(shares)?;
    for_each(num_threads, shares, |(index, (logits, states))| {
        let mut room =
            Room { totals: memory::with_room(tile.width.div_ceil(BLOCK))?, kept: vec![] };
        for (offset, (logits, state)) in logits.chunks_exact(tile.width).zip(states).enumerate() {
            point(4 * tile.width)?;
            let row = index * share + offset;
            let mass = state.score(tile, logits, targets[row], level, &mut room);
            if let (Some(draw), Some(mass)) = (draw, mass) {
                state.draw(draw, tile, logits, mass, row, level, &mut room)?;
            }
        }
        Ok(())
    })
}

/// Room for the sums up to each block, and for logits of which some may not be drawn.
struct Room {
    totals: Vec<u64>,
    kept: Vec<f32>,
}

impl RowState {
    /// Adds a tile to all that the loss needs, and returns the tile's own mass, whose sums up to
    /// each block stay in the room.
    fn score(
        &mut self,
        tile: Tile,
        logits: &[f32],
        target: i64,
        level: Level,
        room: &mut Room,
    ) -> Option<Mass> {
        let inside = usize::try_from(target - tile.first).ok();
        if let Some(logit) = inside.and_then(|place| logits.get(place)) {
            self.target = *logit;
        }
        let found = level.run(Weigh { logits, scale: scale(1.0), totals: &mut room.totals });
        let Some(mass) = found else {
            self.bad = true;
            return None;
        };
        self.total += level.run(Sum(logits));
        if mass.max > self.mass.max {
            let place = logits.iter().position(|logit| *logit >= mass.max).unwrap_or(0);
            self.best = tile.first + place as i64;
        }
        let (max, before, here) = self.mass.aligned(mass, scale(1.0));
        self.mass = Mass { max, sum: before + here };
        Some(mass)
    }

    /// Draws from a tile, and keeps the token with the probability of the tile among those so far.
    #[allow(clippy::too_many_arguments)]
    fn draw(
        &mut self,
        draw: &SweepDraw,
        tile: Tile,
        logits: &[f32],
        mut mass: Mass,
        row: usize,
        level: Level,
        room: &mut Room,
    ) -> Result<()> {
        let Sampling { temperature, forbidden, excluded, .. } = draw.sampling;
        let scale = scale(temperature);
        let end = tile.first + tile.width as i64;
        let from = forbidden.partition_point(|id| *id < tile.first);
        let to = forbidden.partition_point(|id| *id < end);
        let forbidden = forbidden.get(from..to).unwrap_or_default();
        let excluded = excluded.and_then(|ids| ids.get(row));
        let excluded = excluded.filter(|id| (tile.first..end).contains(*id));
        let limited = excluded.is_some() || !forbidden.is_empty();
        let mut logits = logits;
        if limited {
            room.kept.clear();
            memory::grow(&mut room.kept, logits.len())?;
            room.kept.extend_from_slice(logits);
            for id in forbidden.iter().chain(excluded) {
                room.kept[(*id - tile.first) as usize] = f32::NEVER;
            }
            logits = &room.kept;
        }
        if limited || scale.to_bits() != self::scale(1.0).to_bits() {
            match level.run(Weigh { logits, scale, totals: &mut room.totals }) {
                Some(found) => mass = found,
                None => return Ok(()),
            }
        }
        let (max, before, here) = self.drawable.aligned(mass, scale);
        self.drawable = Mass { max, sum: before + here };
        let words = |block| {
            let [low, high, _, _] = draw.draws.words(row, block);
            u64::from(low) | u64::from(high) << 32
        };
        if here == 0 || times(words(DECIDING | tile.number), before + here) < before {
            return Ok(());
        }
        let aim = times(words(tile.number), mass.sum);
        let block = room.totals.partition_point(|sum| *sum <= aim);
        let mut sum = if block == 0 { 0 } else { room.totals[block - 1] };
        let start = block * BLOCK;
        for (offset, logit) in logits.get(start..).unwrap_or_default().iter().enumerate() {
            sum += weight(distance(mass.max, *logit, scale));
            if sum > aim {
                self.drawn = tile.first + (start + offset) as i64;
                return Ok(());
            }
        }
        Err(Error::Shape("logits changed while they were read".into()))
    }
}

/// Returns `floor(uniform * count / 2^64)`: a number below `count`.
fn times(uniform: u64, count: u64) -> u64 {
    ((u128::from(uniform) * u128::from(count)) >> 64) as u64
}

/// Finds the mass of a row's part, and the sums up to each block; `None` of NaN or +Inf.
struct Weigh<'a> {
    logits: &'a [f32],
    scale: f32,
    totals: &'a mut Vec<u64>,
}

impl Job for Weigh<'_> {
    type Output = Option<Mass>;

    #[inline(always)]
    fn run<L: Lanes>(self) -> Option<Mass> {
        let max = f32::greatest(self.logits)?;
        self.totals.clear();
        if max == f32::NEG_INFINITY {
            return Some(Mass::NONE);
        }
        let (mut buffer, mut sum) = ([0.0; BLOCK], 0);
        for block in self.logits.chunks(BLOCK) {
            sum += L::weights(f32::block(block, &mut buffer), max, self.scale);
            self.totals.push(sum);
        }
        Some(Mass { max, sum })
    }
}

/// Adds logits in f64, in eight lanes.
struct Sum<'a>(&'a [f32]);

impl Job for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let mut lanes = [0.0; 8];
        let (whole, rest) = self.0.as_chunks::<8>();
        for eight in whole {
            for (lane, logit) in lanes.iter_mut().zip(eight) {
                *lane += f64::from(*logit);
            }
        }
        lanes.iter().sum::<f64>() + rest.iter().map(|logit| f64::from(*logit)).sum::<f64>()
    }
}
