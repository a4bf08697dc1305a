//! Sweeps against whole rows, each other and the softmax.

use super::*;
use crate::rng::{Key, Stream};
use crate::tokens::SampleIds;

/// All tiles of a matrix of logits.
fn sweep(
    logits: &[f32],
    vocabulary: usize,
    width: usize,
    targets: &[i64],
    draw: Option<&SweepDraw>,
    level: Level,
) -> Vec<RowState> {
    let mut states = vec![RowState::default(); targets.len()];
    for (number, first) in (0..vocabulary).step_by(width).enumerate() {
        let width = width.min(vocabulary - first);
        let part: Vec<f32> = logits
            .chunks(vocabulary)
            .flat_map(|row| row[first..first + width].iter().copied())
            .collect();
        let number = number as u32;
        let tile = Tile { logits: &part, width, first: first as i64, number };
        sweep_tile(tile, targets, draw, level, 2, &mut states).unwrap();
    }
    states
}

fn rows(count: usize, vocabulary: usize) -> Vec<f32> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count * vocabulary).map(|_| 12.0 * (next() + next() + next())).collect()
}

fn draw(rows: usize, forbidden: &[i64]) -> SweepDraw<'_> {
    let key = Key::new(3, 1, Stream::Replace);
    let draws = Draws::new(key, SampleIds::new(None, rows).unwrap(), None, rows).unwrap();
    SweepDraw { draws, sampling: Sampling { forbidden, ..Sampling::default() } }
}

#[test]
fn the_loss_is_that_of_a_whole_row() {
    let (count, vocabulary) = (5, 1_000);
    let logits = rows(count, vocabulary);
    let targets = [0, 999, 255, 256, 500];
    for width in [1_000, 256, 100, 7] {
        let states = sweep(&logits, vocabulary, width, &targets, None, Level::best());
        for ((state, row), target) in states.iter().zip(logits.chunks(vocabulary)).zip(targets) {
            let exact = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
            assert!((state.mass.logsumexp() - exact).abs() < 2e-7, "{width}");
            let max = row.iter().fold(f32::MIN, |a, b| a.max(*b));
            assert_eq!(state.best, row.iter().position(|x| *x >= max).unwrap() as i64);
            assert_eq!(state.target.to_bits(), row[target as usize].to_bits());
            let total: f64 = row.iter().map(|x| f64::from(*x)).sum();
            assert!((state.total - total).abs() < 1e-9);
            assert_eq!((state.drawn, state.bad), (-1, false));
        }
    }
}

#[test]
fn every_level_gives_the_same() {
    let logits = rows(40, 600);
    let targets: Vec<i64> = (0..40).collect();
    let mut draw = draw(40, &[3, 4, 299, 300, 599]);
    for temperature in [1.0, 0.6] {
        draw.sampling.temperature = temperature;
        draw.sampling.excluded = (temperature < 1.0).then_some(&targets);
        let run = |level| sweep(&logits, 600, 256, &targets, Some(&draw), level);
        let expected = run(Level::Scalar);
        assert_eq!(run(Level::Avx2), expected);
        assert_eq!(run(Level::Avx512), expected);
    }
}

#[test]
fn frequencies_follow_the_softmax_whatever_the_tiles() {
    // Weights 8, 4, 2, 1 and 1, of which the second is forbidden, and the target excluded.
    let row = [3.0, 2.0, 1.0, 0.0, 0.0, f32::NEG_INFINITY].map(|x| x * std::f32::consts::LN_2);
    let count = 60_000;
    let (logits, targets) = (row.repeat(count), vec![3; count]);
    for (limited, expected) in
        [(false, [8.0, 4.0, 2.0, 1.0, 1.0, 0.0]), (true, [8.0, 0.0, 2.0, 0.0, 1.0, 0.0])]
    {
        let mut draw = draw(count, if limited { &[1] } else { &[] });
        draw.sampling.excluded = limited.then_some(&targets);
        for width in [6, 3, 2, 1] {
            let mut counts = [0f64; 6];
            for state in sweep(&logits, 6, width, &targets, Some(&draw), Level::best()) {
                counts[state.drawn as usize] += 1.0;
            }
            let all: f64 = expected.iter().sum();
            for (found, weight) in counts.iter().zip(expected) {
                let share: f64 = weight / all;
                let error = (found / count as f64 - share).abs();
                assert!(error <= 5.0 * (share / count as f64).sqrt(), "{width}: {counts:?}");
            }
        }
    }
}

#[test]
fn bad_and_empty_rows_are_kept_apart() {
    let mut logits = rows(3, 40);
    logits[47] = f32::NAN;
    logits[80..].fill(f32::NEG_INFINITY);
    let draw = draw(3, &[]);
    let states = sweep(&logits, 40, 16, &[0, 0, 0], Some(&draw), Level::best());
    assert_eq!(states.iter().map(|s| s.bad).collect::<Vec<_>>(), [false, true, false]);
    assert!(states[0].drawn >= 0);
    assert_eq!((states[2].drawn, states[2].drawable), (-1, Mass::NONE));
    assert!(states[2].mass.logsumexp() == f64::NEG_INFINITY);
}
