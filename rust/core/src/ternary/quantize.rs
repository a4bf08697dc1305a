//! ComPEFT's compression of one group of tensors (arXiv 2311.13171, section 2).
//!
//! Where the published code differs (it keeps one entry more and every tie, takes the standard
//! deviation in the tensor's own precision, and crashes on small inputs) this follows the paper:
//! exactly k entries, ties to the lowest position, float64 statistics.

use super::select::{CHUNK, Histogram, MAGNITUDE, Selection, select, shares};
use crate::{Error, Result, threads};

/// One tensor of a group.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its entries.
    pub values: &'a [f32],
}

/// How the scale comes about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alpha {
    /// This many standard deviations.
    Fixed(f64),
    /// The scale of least squared error: the mean magnitude of the kept entries that are not zero.
    LeastSquares,
}

/// The scale of a group, and what led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ternary {
    /// What a trit is multiplied with.
    pub scale: f32,
    /// Standard deviation of all entries before pruning: unbiased; of one entry its magnitude.
    pub std: f64,
    /// Entries that were selected; those that are zero become zero trits.
    pub kept: u64,
    /// Nonzero trits.
    pub nonzeros: u64,
}

/// Number of entries to keep: `floor(count * density + 1e-6)`, so that 0.29 of 100 is 29.
pub fn kept_entries(count: u64, density: f64) -> u64 {
    ((count as f64 * density + 1e-6).floor() as u64).min(count)
}

struct Chunk<'a> {
    part: usize,
    start: usize,
    values: &'a [f32],
}

/// Replaces a group's entries by trits: the signs of the entries of largest magnitude.
///
/// `outs[i]` takes the trits of `parts[i]`. `upstream` keeps what the published code keeps: one entry
/// more, and every tie.
///
/// # Errors
/// [`Error::Argument`] if density is not in (0, 1], alpha is not positive and finite, an entry is
/// NaN or infinite (named with its index), or the scale overflows; [`Error::Shape`] if `outs` do not
/// fit `parts`.
pub fn ternarize(
    parts: &[Part<'_>],
    outs: Vec<&mut [i8]>,
    density: f64,
    alpha: Alpha,
    num_threads: usize,
    upstream: bool,
) -> Result<Ternary> {
    if !(density > 0.0 && density <= 1.0) {
        return Err(Error::argument("density", density, "a share in (0, 1]"));
    }
    if let Alpha::Fixed(alpha) = alpha
        && !(alpha > 0.0 && alpha.is_finite())
    {
        return Err(Error::argument("alpha", alpha, "a positive finite number"));
    }
    if outs.len() != parts.len() || outs.iter().zip(parts).any(|(o, p)| o.len() != p.values.len()) {
        return Err(Error::Shape("the trits do not have the lengths of the tensors".into()));
    }
    let chunks: Vec<Chunk<'_>> = parts
        .iter()
        .enumerate()
        .flat_map(|(part, p)| {
            p.values.chunks(CHUNK).enumerate().map(move |(i, values)| Chunk {
                part,
                start: i * CHUNK,
                values,
            })
        })
        .collect();
    let count: u64 = parts.iter().map(|p| p.values.len() as u64).sum();

    let (upper, mean) = scan(parts, &chunks, count, num_threads)?;
    let std = deviation(&chunks, count, mean, num_threads)?;
    let kept = if upstream {
        ((count as f64 * density) as u64 + 1).min(count)
    } else {
        kept_entries(count, density)
    };
    let slices: Vec<&[f32]> = chunks.iter().map(|chunk| chunk.values).collect();
    let mut selection =
        if kept == 0 { None } else { Some(select(&slices, &upper, kept, num_threads)?) };
    if let Some(selection) = selection.as_mut().filter(|_| upstream) {
        selection.ties = selection.ties_present;
    }
    let (nonzeros, magnitudes) = emit(&slices, outs, selection, num_threads)?;

    let scale = match alpha {
        Alpha::Fixed(alpha) => alpha * std,
        Alpha::LeastSquares if nonzeros == 0 => 0.0,
        Alpha::LeastSquares => magnitudes / nonzeros as f64,
    } as f32;
    if !scale.is_finite() {
        return Err(Error::argument(
            "alpha",
            match alpha {
                Alpha::Fixed(alpha) => alpha.to_string(),
                Alpha::LeastSquares => "least_squares".into(),
            },
            format!("a scale that float32 can hold, of a standard deviation of {std:e}"),
        ));
    }
    Ok(Ternary { scale, std, kept, nonzeros })
}

/// First pass: the histogram of the upper bits, the mean, and a refusal of NaN and infinity.
fn scan(
    parts: &[Part<'_>],
    chunks: &[Chunk<'_>],
    count: u64,
    num_threads: usize,
) -> Result<(Histogram, f64)> {
    let mut work: Vec<(&[Chunk<'_>], Histogram, Vec<f64>)> = shares(chunks, num_threads)
        .map(|share| (share, Histogram::upper(), Vec::with_capacity(share.len())))
        .collect();
    threads::for_each(num_threads, work.iter_mut().collect(), |(share, histogram, sums)| {
        for chunk in *share {
            if let Some(i) = chunk.values.iter().position(|v| !v.is_finite()) {
                let (name, index) = (parts[chunk.part].name, chunk.start + i);
                return Err(Error::argument(
                    "x",
                    format!("{} at index {index} of {name}", chunk.values[i]),
                    "finite numbers",
                ));
            }
            histogram.count_upper(chunk.values);
            sums.push(sum(chunk.values, f64::from));
        }
        Ok(())
    })?;
    let mut upper = Histogram::upper();
    let mut total = 0.0;
    for (_, histogram, sums) in &work {
        upper.add(histogram);
        total = sums.iter().fold(total, |total, sum| total + sum);
    }
    Ok((upper, total / count.max(1) as f64))
}

/// Second pass: the unbiased standard deviation; of one entry its magnitude, of none 0.
fn deviation(chunks: &[Chunk<'_>], count: u64, mean: f64, num_threads: usize) -> Result<f64> {
    if count <= 1 {
        return Ok(mean.abs());
    }
    let mut squares = vec![0.0; chunks.len()];
    let work = squares.iter_mut().zip(chunks).collect();
    threads::for_each(num_threads, work, |(slot, chunk): (&mut f64, &Chunk<'_>)| {
        *slot = sum(chunk.values, |v| (f64::from(v) - mean).powi(2));
        Ok(())
    })?;
    Ok((squares.iter().sum::<f64>() / (count - 1) as f64).sqrt())
}

/// Last pass: trits; returns the nonzeros and the sum of their magnitudes.
fn emit(
    chunks: &[&[f32]],
    outs: Vec<&mut [i8]>,
    selection: Option<Selection>,
    num_threads: usize,
) -> Result<(u64, f64)> {
    let allowed = ties_by_chunk(chunks, selection, num_threads)?;
    let mut counts = vec![(0u64, 0.0f64); chunks.len()];
    let outs = outs.into_iter().flat_map(|out| out.chunks_mut(CHUNK));
    let work: Vec<_> = chunks.iter().zip(outs).zip(&allowed).zip(&mut counts).collect();
    threads::for_each(num_threads, work, |(((values, out), ties), counts)| {
        // Entries that are zero become zero trits even where they are selected.
        let threshold = selection.map_or(u32::MAX, |s| s.threshold.max(1));
        match ties {
            None => {
                for (trit, value) in out.iter_mut().zip(*values) {
                    let bits = value.to_bits();
                    let kept = i8::from(bits & MAGNITUDE >= threshold);
                    *trit = kept - 2 * (kept & (bits >> 31) as i8);
                }
            }
            Some(ties) => {
                let mut left = *ties;
                for (trit, value) in out.iter_mut().zip(*values) {
                    let bits = value.to_bits();
                    let tie = bits & MAGNITUDE == threshold;
                    let kept = bits & MAGNITUDE > threshold || (tie && left > 0);
                    left -= u64::from(tie && kept);
                    *trit = i8::from(kept) * (1 - 2 * (bits >> 31) as i8);
                }
            }
        }
        counts.0 = out.iter().map(|trit| u64::from(*trit != 0)).sum();
        counts.1 =
            out.iter().zip(*values).map(|(trit, value)| f64::from(f32::from(*trit) * value)).sum();
        Ok(())
    })?;
    Ok(counts.iter().fold((0, 0.0), |(n, sum), (m, magnitude)| (n + m, sum + magnitude)))
}

/// How many ties each chunk may keep, lowest positions first; `None` where all are kept.
fn ties_by_chunk(
    chunks: &[&[f32]],
    selection: Option<Selection>,
    num_threads: usize,
) -> Result<Vec<Option<u64>>> {
    let Some(selection) = selection.filter(|s| s.ties < s.ties_present && s.threshold > 0) else {
        return Ok(vec![None; chunks.len()]);
    };
    let mut present = vec![0u64; chunks.len()];
    let work = present.iter_mut().zip(chunks).collect();
    threads::for_each(num_threads, work, |(slot, values): (&mut u64, &&[f32])| {
        let tie = |v: &f32| u64::from(v.to_bits() & MAGNITUDE == selection.threshold);
        *slot = values.iter().map(tie).sum();
        Ok(())
    })?;
    let mut left = selection.ties;
    Ok(present
        .iter()
        .map(|present| {
            let here = left.min(*present);
            left -= here;
            Some(here)
        })
        .collect())
}

/// Sum in eight interleaved accumulators: fixed order, and the compiler can use vectors.
fn sum(values: &[f32], f: impl Fn(f32) -> f64) -> f64 {
    let (rows, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for row in rows {
        for (lane, value) in lanes.iter_mut().zip(row) {
            *lane += f(*value);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|v| f(*v)).sum::<f64>()
}

#[cfg(test)]
// Bit-equality is what is promised.
#[allow(clippy::float_cmp)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(
        values: &[f32],
        density: f64,
        alpha: Alpha,
        threads: usize,
    ) -> Result<(Vec<i8>, Ternary)> {
        let mut trits = vec![9; values.len()];
        let part = Part { name: "w", values };
        let group = ternarize(&[part], vec![&mut trits], density, alpha, threads, false)?;
        Ok((trits, group))
    }

    #[test]
    fn worked_by_hand() {
        // k = 2; magnitudes 3 and then the first of the two 2s.
        let values = [1.0, -2.0, 0.0, 3.0, 2.0];
        let (trits, group) = run(&values, 0.4, Alpha::Fixed(2.0), 1).unwrap();
        assert_eq!(trits, [0, -1, 0, 1, 0]);
        // Mean 0.8, squares .04 + 7.84 + .64 + 4.84 + 1.44 = 14.8, over 4.
        assert!((group.std - 3.7f64.sqrt()).abs() < 1e-12);
        assert_eq!(group.scale, (2.0 * group.std) as f32);
        assert_eq!((group.kept, group.nonzeros), (2, 2));
        let (_, group) = run(&values, 0.4, Alpha::LeastSquares, 1).unwrap();
        assert_eq!(group.scale, 2.5);
    }

    #[test]
    fn edges() {
        assert_eq!(run(&[], 0.5, Alpha::Fixed(1.0), 1).unwrap().1.scale, 0.0);
        assert_eq!(
            run(&[-3.0], 1.0, Alpha::Fixed(1.0), 1).unwrap(),
            (vec![-1], Ternary { scale: 3.0, std: 3.0, kept: 1, nonzeros: 1 })
        );
        assert_eq!(run(&[1.0, 2.0], 0.2, Alpha::LeastSquares, 1).unwrap().0, [0, 0]);
        let (trits, group) = run(&[0.0, -0.0, 5.0, 0.0], 0.75, Alpha::Fixed(1.0), 1).unwrap();
        assert_eq!((trits, group.kept, group.nonzeros), (vec![0, 0, 1, 0], 3, 1));
        assert_eq!(kept_entries(100, 0.29), 29);
        assert_eq!(kept_entries(3, 1.0), 3);
    }

    #[test]
    fn upstream_keeps_one_more_and_every_tie() {
        let values = [1.0, -2.0, 0.0, 3.0, 2.0, 0.5, 0.25, 0.0, 0.0, 0.0];
        let mut trits = [9; 10];
        let part = Part { name: "w", values: &values };
        ternarize(&[part], vec![&mut trits], 0.1, Alpha::Fixed(1.0), 1, true).unwrap();
        assert_eq!(trits, [0, -1, 0, 1, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_value_that_is_not_finite_is_named() {
        let mut values = vec![1.0; 100_000];
        values[70_001] = f32::NAN;
        let error = run(&values, 0.5, Alpha::Fixed(1.0), 2).unwrap_err().to_string();
        assert_eq!(error, "x is NaN at index 70001 of w, expected finite numbers");
        assert!(run(&[1.0], 0.0, Alpha::Fixed(1.0), 1).is_err());
        assert!(run(&[1.0], f64::NAN, Alpha::Fixed(1.0), 1).is_err());
        assert!(run(&[1.0], 0.5, Alpha::Fixed(-1.0), 1).is_err());
        assert!(run(&[f32::MAX, f32::MIN], 0.5, Alpha::Fixed(9.0), 1).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn keeps_exactly_k_ties_to_the_lowest(
            values in prop::collection::vec((-6..=6i32).prop_map(|v| v as f32 / 4.0), 1..300),
            repeat in 1..900usize,
            density in 0.001..1.0f64,
            threads in 1..4usize,
        ) {
            let values: Vec<f32> = values.iter().cycle().take(values.len() * repeat).copied().collect();
            let (trits, group) = run(&values, density, Alpha::LeastSquares, threads).unwrap();
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()));
            let mut expected = vec![0i8; values.len()];
            for i in &order[..kept_entries(values.len() as u64, density) as usize] {
                expected[*i] = if values[*i] == 0.0 { 0 } else { values[*i].signum() as i8 };
            }
            prop_assert_eq!(&trits, &expected);
            let alone = run(&values, density, Alpha::LeastSquares, 1).unwrap();
            prop_assert_eq!((&alone.0, alone.1), (&trits, group));
        }
    }
}
