//! The rule of a compression: which entries of a group of tensors are kept, and how they are
//! scaled.

use crate::{Error, Result};

/// One tensor of a group.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Its name, for error messages.
    pub name: &'a str,
    /// Its entries.
    pub values: &'a [f32],
}

/// How the scale is determined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alpha {
    /// The scale is this many standard deviations.
    Fixed(f64),
    /// The scale minimizes the squared error: it is the mean magnitude of the kept entries that are
    /// not zero.
    LeastSquares,
}

/// Which entries of a group are kept, and how they are scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    density: f64,
    alpha: Alpha,
    upstream: bool,
}

impl Rule {
    /// Checks the numbers of a rule. With `upstream`, the rule keeps what the published code keeps:
    /// one entry more, and every tie.
    ///
    /// # Errors
    /// [`Error::Argument`] if `density` is not in (0, 1], or `alpha` is not positive and finite.
    pub fn new(density: f64, alpha: Alpha, upstream: bool) -> Result<Self> {
        if !(density > 0.0 && density <= 1.0) {
            return Err(Error::argument("density", density, "a share in (0, 1]"));
        }
        if let Alpha::Fixed(alpha) = alpha
            && !(alpha > 0.0 && alpha.is_finite())
        {
            return Err(Error::argument("alpha", alpha, "a positive finite number"));
        }
        Ok(Self { density, alpha, upstream })
    }

    /// Whether the scale is known only after the last pass.
    pub(super) fn is_least_squares(&self) -> bool {
        self.alpha == Alpha::LeastSquares
    }

    /// Whether every tie is kept.
    pub(super) fn keeps_ties(&self) -> bool {
        self.upstream
    }

    /// Number of entries that are selected from `count`.
    pub(super) fn kept(&self, count: u64) -> u64 {
        if self.upstream {
            ((count as f64 * self.density) as u64 + 1).min(count)
        } else {
            kept_entries(count, self.density)
        }
    }

    /// Computes the scale from the standard deviation, the number of nonzero trits, and the sum of
    /// the magnitudes that they keep.
    pub(super) fn scale(&self, std: f64, nonzeros: u64, magnitudes: f64) -> Result<f32> {
        let scale = match self.alpha {
            Alpha::Fixed(alpha) => alpha * std,
            Alpha::LeastSquares if nonzeros == 0 => 0.0,
            Alpha::LeastSquares => magnitudes / nonzeros as f64,
        } as f32;
        if !scale.is_finite() {
            return Err(Error::argument(
                "alpha",
                match self.alpha {
                    Alpha::Fixed(alpha) => alpha.to_string(),
                    Alpha::LeastSquares => "least_squares".into(),
                },
                format!(
                    "a value that gives a finite float32 scale with a standard deviation of {std:e}"
                ),
            ));
        }
        Ok(scale)
    }
}

/// The scale of a group, and the statistics that led to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ternary {
    /// The factor that trits are multiplied with.
    pub scale: f32,
    /// Unbiased standard deviation of all entries before pruning; the magnitude of a single entry.
    pub std: f64,
    /// Number of entries that were selected; those that are zero become zero trits.
    pub kept: u64,
    /// Number of nonzero trits.
    pub nonzeros: u64,
}

/// Returns the number of entries to keep: `floor(count * density + 1e-6)`, so that 0.29 of 100 is
/// 29.
pub fn kept_entries(count: u64, density: f64) -> u64 {
    ((count as f64 * density + 1e-6).floor() as u64).min(count)
}
