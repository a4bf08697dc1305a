//! Every level gives the sums of the definition.

use super::super::{Job, Lanes, Level};
use super::BLOCK;
use crate::softmax::{distance, envelope, scale, weight};

struct Sum<'a>(&'a [f32; BLOCK], f32, f32);

impl Job for Sum<'_> {
    type Output = [u64; 2];
    #[inline(always)]
    fn run<L: Lanes>(self) -> [u64; 2] {
        [L::envelopes(self.0, self.1, self.2), L::weights(self.0, self.1, self.2)]
    }
}

#[test]
fn every_level_gives_the_same() {
    let mut state = 1u64;
    for temperature in [1.0, 0.3, 1e-6, 7.5, 1e6] {
        let scale = scale(temperature);
        for round in 0..300 {
            let mut logits = [0f32; BLOCK];
            for logit in &mut logits {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
                let wide = 10f32.powi(round % 9 - 5);
                *logit = match (state >> 60, round % 3) {
                    (0, _) => f32::NEG_INFINITY,
                    (_, 0) => f32::from_bits((state >> 32) as u32 & 0xFF7F_FFFF | 0x8000_0000),
                    _ => ((state >> 33) as f32 / (1u64 << 31) as f32 - 0.5) * wide,
                };
            }
            let max = logits.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            // By the definition, not by the scalar level, whose loops are its own.
            let expected: [u64; 2] = [envelope as fn(u32) -> u64, weight]
                .map(|of| logits.iter().map(|x| of(distance(max, *x, scale))).sum());
            for level in [Level::Scalar, Level::Avx2, Level::Avx512] {
                let found = level.run(Sum(&logits, max, scale));
                assert_eq!(found, expected, "{level:?}, temperature {temperature}, {round}");
            }
        }
    }
}
