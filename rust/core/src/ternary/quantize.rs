//! ComPEFT's compression of one group of tensors (arXiv 2311.13171, section 2).
//!
//! The published code keeps one entry more and every tie, computes the standard deviation in the
//! tensor's own precision, and crashes on small inputs. This implementation follows the paper
//! instead: it keeps exactly k entries, prefers ties at the lowest positions, and computes
//! statistics in float64.

use super::passes::Agreement;
use super::rule::{Part, Rule, Ternary};
use super::stages::Quantizer;
use crate::simd::Level;
use crate::{Error, Result};

/// Replaces the entries of a group by trits: the signs of the entries of largest magnitude, and 0
/// elsewhere.
///
/// Writes the trits of `parts[i]` to `outs[i]`, and returns the scale and how well the trits of
/// each part agree with it.
///
/// # Errors
/// [`Error::Argument`] if an entry is NaN or infinite (the message gives its index), or the scale
/// overflows; [`Error::Shape`] if `outs` do not have the lengths of `parts`.
pub fn ternarize(
    parts: &[Part<'_>],
    outs: Vec<&mut [i8]>,
    rule: Rule,
    level: Level,
    num_threads: usize,
) -> Result<(Ternary, Vec<Agreement>)> {
    if outs.len() != parts.len() || outs.iter().zip(parts).any(|(o, p)| o.len() != p.values.len()) {
        return Err(Error::Shape(
            "the outputs for the trits do not have the lengths of the tensors".into(),
        ));
    }
    let mut group = Quantizer::new(rule);
    group.scan(parts, level, num_threads)?;
    group.refine(parts, level, num_threads)?;
    let agreements = group.emit(parts, outs, level, num_threads)?;
    Ok((group.finish()?, agreements))
}

#[cfg(test)]
// Results are documented to be equal bit for bit.
#[allow(clippy::float_cmp)]
mod tests {
    use proptest::prelude::*;

    use super::super::rule::{Alpha, kept_entries};
    use super::*;

    fn run(
        values: &[f32],
        density: f64,
        alpha: Alpha,
        threads: usize,
    ) -> Result<(Vec<i8>, Ternary)> {
        let mut trits = vec![9; values.len()];
        let part = Part { name: "w", values };
        let rule = Rule::new(density, alpha, false)?;
        let (group, kept) = ternarize(&[part], vec![&mut trits], rule, Level::best(), threads)?;
        for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
            let mut again = vec![9; values.len()];
            let found = ternarize(&[part], vec![&mut again], rule, level, 1)?;
            assert!((found, &again) == ((group, kept.clone()), &trits), "{level:?}");
        }
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
    fn a_tensor_at_a_time_gives_the_same_bits() {
        let values: Vec<f32> =
            (0..300_000u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 20) as f32 - 1900.5).collect();
        let parts: Vec<Part<'_>> =
            values.chunks(110_000).map(|values| Part { name: "w", values }).collect();
        for (alpha, upstream) in [(Alpha::Fixed(1.0), true), (Alpha::LeastSquares, false)] {
            let rule = Rule::new(0.2, alpha, upstream).unwrap();
            let mut trits = vec![9; values.len()];
            let outs = trits.chunks_mut(110_000).collect();
            let whole = ternarize(&parts, outs, rule, Level::best(), 3).unwrap();
            let (mut group, mut again) = (Quantizer::new(rule), vec![9; values.len()]);
            for part in &parts {
                group.scan(&[*part], Level::Scalar, 2).unwrap();
            }
            for part in &parts {
                group.refine(&[*part], Level::Scalar, 1).unwrap();
            }
            let mut kept = Vec::new();
            for (part, out) in parts.iter().zip(again.chunks_mut(110_000)) {
                kept.extend(group.emit(&[*part], vec![out], Level::Scalar, 2).unwrap());
            }
            assert_eq!((group.finish().unwrap(), kept), whole);
            assert_eq!(again, trits);
        }
    }

    #[test]
    fn passes_out_of_order_or_over_other_tensors_are_errors() {
        let rule = Rule::new(0.5, Alpha::Fixed(1.0), false).unwrap();
        let part = |values| Part { name: "w", values };
        let (few, more) = (part(&[1.0, 2.0]), part(&[1.0, 2.0, 3.0]));
        let mut trits = [0; 2];
        let mut group = Quantizer::new(rule);
        assert!(group.emit(&[few], vec![&mut trits], Level::best(), 1).is_err());
        group.scan(&[more], Level::best(), 1).unwrap();
        group.refine(&[few], Level::best(), 1).unwrap();
        assert!(group.scan(&[few], Level::best(), 1).is_err());
        let error = group.emit(&[few], vec![&mut trits], Level::best(), 1).unwrap_err();
        assert!(
            error.to_string().contains("a pass saw 2 entries, but the first pass saw 3"),
            "{error}"
        );
        assert!(group.finish().is_err());
        let mut group = Quantizer::new(rule);
        group.scan(&[few], Level::best(), 1).unwrap();
        group.refine(&[few], Level::best(), 1).unwrap();
        let other = part(&[9.0, 9.0]);
        group.emit(&[other], vec![&mut trits], Level::best(), 1).unwrap();
        assert!(group.finish().unwrap_err().to_string().contains("changed between the passes"));
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
        let rule = Rule::new(0.1, Alpha::Fixed(1.0), true).unwrap();
        ternarize(&[part], vec![&mut trits], rule, Level::best(), 1).unwrap();
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
