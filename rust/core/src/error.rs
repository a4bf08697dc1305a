//! One error type for the crate: every message names the offending value and what was expected.

use std::io;

/// What can go wrong in a kernel or a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument has a value outside its domain.
    #[error("{name} is {value}, expected {expected}")]
    Argument {
        /// Name of the argument, as the Python function spells it.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What would have been accepted.
        expected: String,
    },
    /// Two arguments do not fit each other, or one has the wrong number of elements.
    #[error("{0}")]
    Shape(String),
    /// A file or a stream is damaged, truncated, or not what it says it is.
    #[error("{0}")]
    Format(String),
    /// The operating system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the path.
        context: String,
        /// The system's own error.
        source: io::Error,
    },
}

impl Error {
    /// An argument outside its domain.
    pub fn argument(name: &'static str, value: impl ToString, expected: impl ToString) -> Self {
        Self::Argument { name, value: value.to_string(), expected: expected.to_string() }
    }

    /// Wraps an I/O error with what was being done.
    pub fn io(context: impl ToString, source: io::Error) -> Self {
        Self::Io { context: context.to_string(), source }
    }
}

/// Result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
