//! Replaced-token detection: the input of the main model and its labels.

use crate::threads::for_each;
use crate::{Error, Result, memory};

/// The label of padding, which the loss ignores.
const IGNORED: i8 = -100;

/// The outputs of [`replaced_token_labels`], which are as long as `original`.
#[derive(Debug)]
pub struct ReplacedOutput<'a> {
    /// The originals, with the samples at their positions and the pad id at padding.
    pub input_ids: &'a mut [i64],
    /// 1 where the token differs from the original, 0 where it is the same, -100 at padding.
    pub labels: &'a mut [i8],
}

/// Writes the samples over the original tokens, and labels the tokens that this changed.
///
/// A sample that equals the original counts as original (arXiv 2305.12567, section 3). Negative
/// originals are padding. `positions` are flat indices in strictly ascending order.
///
/// # Errors
/// If sizes do not match, a position is out of range, out of order or at padding, or a sample or
/// the pad id is negative.
pub fn replaced_token_labels(
    original: &[i64],
    positions: &[i64],
    sampled: &[i64],
    pad: i64,
    num_threads: usize,
    output: ReplacedOutput,
) -> Result<()> {
    check(original, positions, sampled)?;
    if pad < 0 {
        return Err(Error::argument("pad_token_id", pad, "a token id, 0 or more"));
    }
    if output.input_ids.len() != original.len() || output.labels.len() != original.len() {
        return Err(Error::Shape(format!(
            "out holds {} and {} elements, expected the {} of original",
            output.input_ids.len(),
            output.labels.len(),
            original.len()
        )));
    }
    let share = original.len().div_ceil(num_threads.max(1)).max(1);
    let outputs = output.input_ids.chunks_mut(share).zip(output.labels.chunks_mut(share));
    let shares = memory::collect(original.chunks(share).zip(outputs).enumerate())?;
    for_each(num_threads, shares, |(index, (original, (input, labels)))| {
        for ((input, label), id) in input.iter_mut().zip(labels.iter_mut()).zip(original) {
            let padding = *id < 0;
            *input = if padding { pad } else { *id };
            *label = if padding { IGNORED } else { 0 };
        }
        let start = index * share;
        let first = positions.partition_point(|p| (*p as usize) < start);
        let last = positions.partition_point(|p| (*p as usize) < start + original.len());
        for (position, sample) in positions[first..last].iter().zip(&sampled[first..last]) {
            let place = *position as usize - start;
            input[place] = *sample;
            labels[place] = i8::from(*sample != original[place]);
        }
        Ok(())
    })
}

fn check(original: &[i64], positions: &[i64], sampled: &[i64]) -> Result<()> {
    if positions.len() != sampled.len() {
        return Err(Error::Shape(format!(
            "sampled holds {} ids for {} masked_positions, expected one for each position",
            sampled.len(),
            positions.len()
        )));
    }
    let mut above = -1;
    for (index, (position, sample)) in positions.iter().zip(sampled).enumerate() {
        if *position <= above || *position >= original.len() as i64 {
            return Err(Error::argument(
                "masked_positions",
                format!("{position} at {index}"),
                format!("flat indices below {}, strictly ascending", original.len()),
            ));
        }
        if original[*position as usize] < 0 {
            return Err(Error::argument(
                "masked_positions",
                format!("{position} at {index}, which is padding"),
                "positions of tokens",
            ));
        }
        if *sample < 0 {
            return Err(Error::argument("sampled", format!("{sample} at {index}"), "token ids"));
        }
        above = *position;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_samples_count_as_original_and_padding_is_ignored() {
        for threads in 1..5 {
            let (mut input_ids, mut labels) = ([7; 5], [7; 5]);
            replaced_token_labels(
                &[4, 5, 6, -100, -100],
                &[0, 2],
                &[4, 9],
                1,
                threads,
                ReplacedOutput { input_ids: &mut input_ids, labels: &mut labels },
            )
            .unwrap();
            assert_eq!(input_ids, [4, 5, 9, 1, 1]);
            assert_eq!(labels, [0, 0, 1, -100, -100]);
        }
    }

    #[test]
    fn bad_positions_are_refused() {
        let original = [4, 5, -100];
        for (positions, sampled) in [
            (&[0][..], &[][..]),
            (&[1, 0], &[1, 1]),
            (&[1, 1], &[1, 1]),
            (&[3], &[1]),
            (&[-1], &[1]),
            (&[2], &[1]),
            (&[0], &[-1]),
        ] {
            assert!(check(&original, positions, sampled).is_err(), "{positions:?}");
        }
    }
}
