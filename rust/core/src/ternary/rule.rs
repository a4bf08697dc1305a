//! What is kept of a group of tensors, and how it is scaled.

use crate::{Error, Result};

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

/// What is kept of a group, and how it is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    density: f64,
    alpha: Alpha,
    upstream: bool,
}

impl Rule {
    /// `upstream` keeps what the published code keeps: one entry more, and every tie.
    ///
    /// # Errors
    /// [`Error::Argument`] if density is not in (0, 1], or alpha is not positive and finite.
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

    /// Whether the scale waits for the last pass.
    pub(super) fn is_least_squares(&self) -> bool {
        self.alpha == Alpha::LeastSquares
    }

    /// Whether every tie is kept.
    pub(super) fn keeps_ties(&self) -> bool {
        self.upstream
    }

    /// How many of `count` entries are selected.
    pub(super) fn kept(&self, count: u64) -> u64 {
        if self.upstream {
            ((count as f64 * self.density) as u64 + 1).min(count)
        } else {
            kept_entries(count, self.density)
        }
    }

    /// The scale, of a standard deviation and of the nonzero trits and their magnitudes.
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
                format!("a scale that float32 can hold, of a standard deviation of {std:e}"),
            ));
        }
        Ok(scale)
    }
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
