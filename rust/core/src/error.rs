//! The error type of the crate. Every message gives the offending value and what was expected.

use std::io;

use crate::shown::shown;

/// An error of a kernel or a file.
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
        /// A description of the accepted values.
        expected: String,
    },
    /// The sizes of two arguments do not match, or an argument has the wrong number of elements.
    #[error("{0}")]
    Shape(String),
    /// A file or a stream is damaged, truncated, or of a different kind than it claims.
    #[error("{0}")]
    Format(String),
    /// The operating system reported an error.
    #[error("{context}: {source}")]
    Io {
        /// The operation that failed, with the path.
        context: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The caller of [`crate::interrupt::during`] stopped the call; outputs may be half written.
    #[error("the call was interrupted")]
    Interrupted,
    /// There is not enough memory.
    #[error("there is not enough memory for {bytes} bytes")]
    Memory {
        /// The size of the block that could not be had.
        bytes: usize,
    },
}

impl Error {
    /// Makes the error for an argument outside its domain.
    pub fn argument(name: &'static str, value: impl ToString, expected: impl ToString) -> Self {
        Self::Argument { name, value: shown(&value.to_string()), expected: expected.to_string() }
    }

    /// Wraps an I/O error with the operation that failed.
    pub fn io(context: impl ToString, source: io::Error) -> Self {
        Self::Io { context: context.to_string(), source }
    }
}

/// A result with the error type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
