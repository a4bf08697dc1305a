//! Samples replacement tokens: one uniform number per row, through the inverse of the integer CDF.
//!
//! The total variation distance from `softmax(logits / temperature)` is at most 2^-20 for
//! vocabularies of up to 2^18 tokens. It comes from three f32 roundings of the distance, the
//! polynomial of `exp2`, and the floor of the weights. A token below 2^-40 of the likeliest has the
//! weight 0.

use super::exp2::{distance, scale, weight};
use super::logits::Logit;
use crate::rng::Key;
use crate::threads::for_each;
use crate::tokens::SampleIds;
use crate::{Error, Result, memory};

/// Number of logits whose weights are summed before a running total is stored.
const BLOCK: usize = 256;

/// Number of lanes of the search for the greatest logit.
const LANES: usize = 16;

/// Size of the largest vocabulary: the sum of 2^23 weights of 2^40 still fits in 64 bits.
const MAX_VOCABULARY: usize = 1 << 23;

/// The key, sample id and position that each row draws with.
#[derive(Clone, Copy, Debug)]
pub struct Draws<'a> {
    key: Key,
    sample_ids: SampleIds<'a>,
    positions: Option<&'a [i64]>,
}

impl<'a> Draws<'a> {
    /// Row `r` draws with the key, sample id `r` and position `r`, or position 0 if there are no
    /// positions.
    ///
    /// # Errors
    /// If the number of positions is not the number of rows, or a position is outside 0 to 2^32 -
    /// 1.
    pub fn new(
        key: Key,
        sample_ids: SampleIds<'a>,
        positions: Option<&'a [i64]>,
        rows: usize,
    ) -> Result<Self> {
        if let Some(positions) = positions {
            if positions.len() != rows {
                return Err(Error::Shape(format!(
                    "positions holds {} positions for {rows} rows, expected one for each row",
                    positions.len()
                )));
            }
            if let Some(row) = positions.iter().position(|p| u32::try_from(*p).is_err()) {
                return Err(Error::argument(
                    "positions",
                    format!("{} at row {row}", positions[row]),
                    "0 to 2^32 - 1",
                ));
            }
        }
        Ok(Self { key, sample_ids, positions })
    }

    /// Returns 64 random bits for a row: the first two words of its (sample id, position), low word
    /// first.
    fn uniform(&self, row: usize) -> u64 {
        let position = self.positions.map_or(0, |positions| positions[row] as u32);
        let [low, high, _, _] = self.key.words(self.sample_ids.get(row), position, 0);
        u64::from(low) | u64::from(high) << 32
    }
}

/// Draws one token per row from `softmax(logits / temperature)`.
///
/// # Errors
/// If a row holds NaN or +Inf or nothing but -Inf (the message gives row and column), the
/// temperature is outside 1e-6 to 1e6, or sizes do not match.
pub fn sample_replacements<L: Logit>(
    logits: &[L],
    vocabulary: usize,
    draws: &Draws,
    temperature: f64,
    num_threads: usize,
    out: &mut [i64],
) -> Result<()> {
    if !(1e-6..=1e6).contains(&temperature) {
        return Err(Error::argument("temperature", temperature, "a number from 1e-6 to 1e6"));
    }
    if !(1..=MAX_VOCABULARY).contains(&vocabulary) {
        return Err(Error::argument("logits.shape[1]", vocabulary, "1 to 2^23 tokens"));
    }
    if out.len().checked_mul(vocabulary) != Some(logits.len()) {
        return Err(Error::Shape(format!(
            "out holds {} ids for {} rows of logits, expected one for each row",
            out.len(),
            logits.len() / vocabulary
        )));
    }
    if out.is_empty() {
        return Ok(());
    }
    let share = out.len().div_ceil(num_threads.max(1));
    let shares = logits.chunks(share * vocabulary).zip(out.chunks_mut(share)).enumerate();
    let shares = memory::collect(shares)?;
    let scale = scale(temperature);
    for_each(num_threads, shares, |(index, (logits, out))| {
        let mut totals = memory::with_room(vocabulary.div_ceil(BLOCK))?;
        for (offset, (logits, id)) in logits.chunks_exact(vocabulary).zip(out).enumerate() {
            let row = index * share + offset;
            let max = greatest(logits, row)?;
            *id = draw(logits, max, scale, draws.uniform(row), &mut totals) as i64;
        }
        Ok(())
    })
}

/// Whether a logit is not allowed in a softmax.
#[inline]
fn refused(logit: f32) -> bool {
    logit.is_nan() || (logit == f32::INFINITY)
}

/// Returns the greatest logit of a row, and checks the row.
fn greatest<L: Logit>(logits: &[L], row: usize) -> Result<f32> {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut bad = [false; LANES];
    let chunks = logits.chunks_exact(LANES);
    for (lane, logit) in chunks.remainder().iter().enumerate() {
        let logit = logit.to_f32();
        bad[lane] |= refused(logit);
        lanes[lane] = logit;
    }
    for chunk in chunks {
        for lane in 0..LANES {
            let logit = chunk[lane].to_f32();
            bad[lane] |= refused(logit);
            lanes[lane] = if logit > lanes[lane] { logit } else { lanes[lane] };
        }
    }
    if bad.contains(&true) {
        let column = logits.iter().position(|l| refused(l.to_f32())).unwrap_or(0);
        return Err(Error::Shape(format!(
            "logits has {} at row {row}, column {column}, expected finite numbers or -inf",
            logits[column].to_f32()
        )));
    }
    let max = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return Err(Error::Shape(format!(
            "logits has nothing but -inf at row {row}, expected at least one finite number"
        )));
    }
    Ok(max)
}

/// Returns the first token whose inclusive sum of weights exceeds `floor(uniform * total / 2^64)`.
fn draw<L: Logit>(
    logits: &[L],
    max: f32,
    scale: f32,
    uniform: u64,
    totals: &mut Vec<u64>,
) -> usize {
    let weigh = |logit: &L| weight(distance(max, logit.to_f32(), scale));
    totals.clear();
    let mut total = 0;
    for block in logits.chunks(BLOCK) {
        total += block.iter().map(weigh).sum::<u64>();
        totals.push(total);
    }
    let target = ((u128::from(uniform) * u128::from(total)) >> 64) as u64;
    let block = totals.partition_point(|sum| *sum <= target);
    let mut sum = if block == 0 { 0 } else { totals[block - 1] };
    let start = block * BLOCK;
    for (offset, logit) in logits[start..].iter().enumerate() {
        sum += weigh(logit);
        if sum > target {
            return start + offset;
        }
    }
    unreachable!("the target is below the total, which the greatest logit keeps above 0")
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::rng::Stream;

    fn run<L: Logit>(logits: &[L], vocabulary: usize, temperature: f64) -> Result<Vec<i64>> {
        let rows = logits.len() / vocabulary;
        let mut out = vec![0; rows];
        let key = Key::new(3, 0, Stream::Replace);
        let draws = Draws::new(key, SampleIds::new(None, rows)?, None, rows)?;
        sample_replacements(logits, vocabulary, &draws, temperature, 2, &mut out)?;
        Ok(out)
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        // 2, 1, 0 and -inf in units of ln 2: weights 4, 2, 1, 0.
        let row = [2.0, 1.0, 0.0, f32::NEG_INFINITY].map(|x: f32| x * std::f32::consts::LN_2);
        let ids = run(&row.repeat(70_000), 4, 1.0).unwrap();
        let mut counts = [0f64; 4];
        for id in ids {
            counts[id as usize] += 1.0;
        }
        assert!(counts[3] == 0.0);
        let chi: f64 = [4e4, 2e4, 1e4].iter().zip(counts).map(|(e, c)| (c - e).powi(2) / e).sum();
        // Two degrees of freedom: the 1e-6 quantile is 27.6.
        assert!(chi < 27.6, "{counts:?}");
    }

    #[test]
    fn a_row_has_one_answer_in_all_formats_that_hold_it() {
        let wide: Vec<f32> = (0..5 * 1_000).map(|i| ((i * 37) % 101) as f32 / 8.0 - 6.0).collect();
        let brain: Vec<bf16> = wide.iter().map(|x| bf16::from_f32(*x)).collect();
        let half: Vec<f16> = wide.iter().map(|x| f16::from_f32(*x)).collect();
        let expected = run(&wide, 1_000, 0.7).unwrap();
        assert_eq!(run(&brain, 1_000, 0.7).unwrap(), expected);
        assert_eq!(run(&half, 1_000, 0.7).unwrap(), expected);
    }

    #[test]
    fn bad_logits_are_named() {
        for (bad, place, text) in [(f32::NAN, 3, "NaN"), (f32::INFINITY, 39, "inf")] {
            let mut logits = vec![0f32; 80];
            logits[40 + place] = bad;
            let message = run(&logits, 40, 1.0).unwrap_err().to_string();
            assert!(message.contains(&format!("{text} at row 1, column {place}")), "{message}");
        }
        let message = run(&[f32::NEG_INFINITY; 4], 2, 1.0).unwrap_err().to_string();
        assert!(message.contains("nothing but -inf at row 0"), "{message}");
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-7] {
            assert!(run(&[0f32], 1, temperature).is_err());
        }
    }
}
