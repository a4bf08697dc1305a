//! Samples replacement tokens by proposals and acceptances in integers: see [`crate::softmax`].
//!
//! The total variation distance from `softmax(logits / temperature)` is at most 2^-20 for
//! vocabularies of up to 2^18 tokens. It comes from three f32 roundings of the distance and the
//! polynomial of the acceptance. A token below 2^-41 of the likeliest is never drawn.

use super::logits::{Logit, refused};
use super::row::{Row, Unfit};
use super::sampling::{Sampling, Scratch};
use crate::interrupt::point;
use crate::rng::Key;
use crate::simd::Level;
use crate::simd::weights::BLOCK;
use crate::softmax::scale;
use crate::threads::for_each;
use crate::tokens::SampleIds;
use crate::{Error, Result, memory};

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

    /// Returns the random words of a proposal for a row.
    pub(super) fn words(&self, row: usize, proposal: u32) -> [u32; 4] {
        let position = self.positions.map_or(0, |positions| positions[row] as u32);
        self.key.words(self.sample_ids.get(row), position, proposal)
    }
}

/// Draws one token per row from `softmax(logits / temperature)` over the tokens that may be drawn.
///
/// # Errors
/// If a row holds NaN or +Inf or nothing but -Inf among the tokens that may be drawn (the message
/// gives row and column), an option is outside its domain, or sizes do not match.
pub fn sample_replacements<T: Logit>(
    logits: &[T],
    vocabulary: usize,
    draws: &Draws,
    sampling: &Sampling,
    level: Level,
    num_threads: usize,
    out: &mut [i64],
) -> Result<()> {
    sampling.check(out.len(), vocabulary)?;
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
    let scale = scale(sampling.temperature);
    for_each(num_threads, shares, |(index, (logits, out))| {
        let mut totals = memory::with_room(vocabulary.div_ceil(BLOCK))?;
        let mut scratch = Scratch::default();
        for (offset, (logits, id)) in logits.chunks_exact(vocabulary).zip(out).enumerate() {
            point(4 * vocabulary)?;
            let row = index * share + offset;
            let logits = sampling.allowed(row, logits, &mut scratch)?;
            let words = |proposal| draws.words(row, proposal);
            let drawn = level.run(Row { logits, scale, words: &words, totals: &mut totals });
            *id = drawn.map_err(|why| explain(why, row, logits))? as i64;
        }
        Ok(())
    })
}

fn explain<T: Logit>(why: Unfit, row: usize, logits: &[T]) -> Error {
    Error::Shape(match why {
        Unfit::Refused => {
            let column = logits.iter().position(|l| refused(l.to_f32())).unwrap_or(0);
            format!(
                "logits has {} at row {row}, column {column}, expected finite numbers or -inf",
                logits[column].to_f32()
            )
        }
        Unfit::Empty => format!(
            "logits has nothing but -inf at row {row}, expected at least one finite number of a token that may be drawn"
        ),
        Unfit::Changed => format!(
            "logits changed at row {row} while it was read: give an array that no other thread writes"
        ),
    })
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
        let sampling = Sampling { temperature, ..Sampling::default() };
        sample_replacements(logits, vocabulary, &draws, &sampling, Level::best(), 2, &mut out)?;
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
        assert!(run(&[0f32], 1, 0.0).is_err());
    }
}
