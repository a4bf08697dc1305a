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
    for first in (0..vocabulary).step_by(width) {
        let width = width.min(vocabulary - first);
        let part: Vec<f32> = logits
            .chunks(vocabulary)
            .flat_map(|row| row[first..first + width].iter().copied())
            .collect();
        let tile = Tile { logits: &part, width, first: first as i64 };
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
    for width in [1_024, 512, 256] {
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
fn frequencies_follow_the_softmax_over_blocks() {
    // Six tokens in five blocks, with weights 8, 4, 2, 1, 1 and 0; the second is forbidden in the
    // second round, and the fourth is the target.
    let places = [0, 255, 256, 700, 1_000, 1_200];
    let weights = [8.0, 4.0, 2.0, 1.0, 1.0, 0.0];
    let count = 40_000;
    let mut row = vec![f32::NEG_INFINITY; 1_280];
    for (place, weight) in places.iter().zip(weights) {
        row[*place] = (weight as f32).ln();
    }
    let (logits, targets) = (row.repeat(count), vec![700; count]);
    for (limited, expected) in [(false, weights), (true, [8.0, 0.0, 2.0, 0.0, 1.0, 0.0])] {
        let mut draw = draw(count, if limited { &[255] } else { &[] });
        draw.sampling.excluded = limited.then_some(&targets);
        let mut counts = [0f64; 6];
        for state in sweep(&logits, 1_280, 512, &targets, Some(&draw), Level::best()) {
            counts[places.iter().position(|p| *p as i64 == state.drawn).unwrap()] += 1.0;
        }
        let all: f64 = expected.iter().sum();
        for (found, weight) in counts.iter().zip(expected) {
            let share: f64 = weight / all;
            let error = (found / count as f64 - share).abs();
            assert!(error <= 5.0 * (share / count as f64).sqrt(), "{counts:?}");
        }
    }
}

#[test]
fn draws_do_not_depend_on_the_tiles() {
    let logits = rows(30, 2_000);
    let targets: Vec<i64> = (0..30).collect();
    let draw = draw(30, &[3, 299, 300, 1_999]);
    let expected = sweep(&logits, 2_000, 2_048, &targets, Some(&draw), Level::best());
    for width in [256, 512, 1_024] {
        assert_eq!(sweep(&logits, 2_000, width, &targets, Some(&draw), Level::best()), expected);
    }
}

#[test]
fn bad_and_empty_rows_are_kept_apart() {
    let mut logits = rows(3, 40);
    logits[47] = f32::NAN;
    logits[80..].fill(f32::NEG_INFINITY);
    let draw = draw(3, &[]);
    let states = sweep(&logits, 40, 256, &[0, 0, 0], Some(&draw), Level::best());
    assert_eq!(states.iter().map(|s| s.bad).collect::<Vec<_>>(), [false, true, false]);
    assert!(states[0].drawn >= 0);
    assert_eq!((states[2].drawn, states[2].drawable), (-1, Mass::NONE));
    assert!(states[2].mass.logsumexp() == f64::NEG_INFINITY);
}
