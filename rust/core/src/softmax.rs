//! The law of a draw from a softmax, in integers.
//!
//! The distance `d = (max - logit) * log2(e) / temperature` is rounded by one f32 subtraction and
//! one f32 multiplication, and truncated to 25 bits after the point. After that every path (scalar,
//! vector or GPU) does the same integer operations, so the sums are equal in any order.
//!
//! A token should be drawn with a probability in proportion to `2^-d`. It is proposed in proportion
//! to the power of two that is its envelope, `2^-floor(d)`, and accepted with the probability
//! `2^-frac(d)`, which is above one half: about 1.4 proposals are needed on average. So a logit
//! costs a shift, and only a proposed token costs a power.

/// Number of bits after the point of a distance.
pub(crate) const POINT: u32 = 25;

/// Binary logarithm of the envelope of the greatest logit. A block of 2^8 envelopes needs 49 bits,
/// so that its sum is exact in f64 too, and 2^23 envelopes fit in 64 bits.
pub(crate) const TOP: u32 = 40;

/// Distances from here on have the envelope 0.
pub(crate) const FARTHEST: f32 = ((TOP + 1) << POINT) as f32;

/// `2^31 * 2^(i / 32)`, rounded to nearest.
#[rustfmt::skip]
pub(crate) const TABLE: [u32; 32] = [
    0x80000000, 0x82CD8699, 0x85AAC368, 0x88980E81,
    0x8B95C1E4, 0x8EA4398B, 0x91C3D374, 0x94F4EFA9,
    0x9837F052, 0x9B8D39BA, 0x9EF53261, 0xA2704303,
    0xA5FED6AA, 0xA9A15AB5, 0xAD583EEA, 0xB123F582,
    0xB504F334, 0xB8FBAF47, 0xBD08A39F, 0xC12C4CCA,
    0xC5672A11, 0xC9B9BD86, 0xCE248C15, 0xD2A81D92,
    0xD744FCCB, 0xDBFBB798, 0xE0CCDEEC, 0xE5B906E7,
    0xEAC0C6E8, 0xEFE4B99C, 0xF5257D15, 0xFA83B2DB,
];

/// Minimax coefficients of `2^r - 1 ~ r * (C1 + C2 * r)` for r in [0, 1/32), times 2^31.
pub(crate) const C1: u64 = 0x58B8_4744;
pub(crate) const C2: u64 = 0x1F0F_3E4C;

/// Returns the factor that turns `max - logit` into a distance: f32(log2(e) / T) times exactly
/// 2^25.
pub(crate) fn scale(temperature: f64) -> f32 {
    (std::f64::consts::LOG2_E / temperature) as f32 * (1u32 << POINT) as f32
}

/// Returns the distance of a logit from the greatest logit; -Inf is farthest.
#[inline(always)]
pub(crate) fn distance(max: f32, logit: f32, scale: f32) -> u32 {
    let product = (max - logit) * scale;
    let capped = if product < FARTHEST { product } else { FARTHEST };
    // Below 2^31, so that machines without an unsigned conversion give the same result.
    capped as i32 as u32
}

/// Returns `2^(40 - floor(d))`, or 0 from 41 on.
#[inline(always)]
pub(crate) fn envelope(distance: u32) -> u64 {
    (1 << TOP) >> ((distance >> POINT) & 63)
}

/// Returns `floor(uniform * count / 2^64)`: a number below `count`.
#[inline(always)]
pub(crate) fn below(uniform: u64, count: u64) -> u64 {
    ((u128::from(uniform) * u128::from(count)) >> 64) as u64
}

/// Returns `2^(32 - frac(d))` up to a relative error of 2^-23.8, and exactly 2^32 where the fraction
/// is 0: a proposal is accepted if 32 random bits are below.
#[inline]
pub(crate) fn acceptance(distance: u32) -> u64 {
    // 2^-frac(d) = 2^rest / 2, with the rest in (0, 1).
    let rest = distance.wrapping_neg() & ((1 << POINT) - 1);
    if rest == 0 { 1 << 32 } else { power(rest) }
}

/// Returns `floor(2^40 * 2^-d)` up to a relative error of 2^-23.8, and exactly 2^40 at distance 0:
/// what the sum over a row needs, where a proposal is not enough.
#[inline(always)]
pub(crate) fn weight(distance: u32) -> u64 {
    // 2^-d = 2^rest * 2^-shift, with the rest in [0, 1).
    let shift = (distance + (1 << POINT) - 1) >> POINT;
    (power((shift << POINT) - distance) << (TOP - 31)) >> shift
}

/// Returns `2^31 * 2^rest` of a fraction with 25 bits.
#[inline(always)]
fn power(rest: u32) -> u64 {
    let entry = u64::from(TABLE[(rest >> 20) as usize & 31]);
    let r = u64::from(rest & 0xF_FFFF);
    let slope = C1 + ((C2 * r) >> 25);
    let growth = (slope * r) >> 24;
    entry + ((entry * growth) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_the_rounded_power() {
        for (i, entry) in TABLE.iter().enumerate() {
            let exact = 2f64.powf(31.0 + i as f64 / 32.0);
            assert!((f64::from(*entry) - exact).abs() <= 0.5, "{i}");
        }
    }

    #[test]
    fn products_are_within_the_stated_error() {
        let product = |d| envelope(d) as f64 * acceptance(d) as f64;
        assert_eq!((envelope(0), acceptance(0)), (1 << 40, 1 << 32));
        for distance in (0..(TOP + 1) << POINT).step_by(1_013) {
            let exact = 2f64.powf(72.0 - f64::from(distance) / f64::from(1 << POINT));
            let error = (product(distance) - exact).abs();
            assert!(error <= exact * 2f64.powf(-23.8), "{distance}: {error}");
            assert!((1 << 31..=1 << 32).contains(&acceptance(distance)), "{distance}");
        }
    }

    #[test]
    fn weights_are_within_the_stated_error() {
        assert_eq!(weight(0), 1 << 40);
        for distance in (0..(TOP + 1) << POINT).step_by(1_013) {
            let exact = 2f64.powf(40.0 - f64::from(distance) / f64::from(1 << POINT));
            let error = (weight(distance) as f64 - exact).abs();
            // The relative error of the polynomial, and the one unit of the floor.
            assert!(error <= exact * 2f64.powf(-23.8) + 1.0, "{distance}: {error}");
        }
        assert_eq!(weight((TOP + 1) << POINT), 0);
    }

    #[test]
    fn far_logits_are_never_proposed() {
        let scale = scale(1.0);
        for (max, logit, expected) in [
            (0.0, f32::NEG_INFINITY, 0),
            (f32::MAX, f32::MIN, 0),
            (0.0, -28.4, 1),
            (0.0, -28.5, 0),
            (0.0, -0.69, 1 << 40),
            (0.0, -0.70, 1 << 39),
        ] {
            assert_eq!(envelope(distance(max, logit, scale)), expected, "{logit}");
        }
    }
}
