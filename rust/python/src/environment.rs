//! The environment variables that the native module reads: one rule for all of them.
//!
//! A variable that is unset or empty has no effect. Every other value is either used or an error;
//! it is never passed over. `docs/environment.md` lists them.

use std::env::{self, VarError};

use metro_fast_core::Error;
use pyo3::prelude::*;

use crate::error::to_python;

/// The value of a variable, or `None` if it is unset or empty.
///
/// # Errors
/// `MetroFastError` if it is not Unicode.
pub(crate) fn text(name: &'static str) -> PyResult<Option<String>> {
    match env::var(name) {
        Ok(value) if !value.is_empty() => Ok(Some(value)),
        Ok(_) | Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(bytes)) => {
            let value = bytes.to_string_lossy().into_owned();
            Err(refused(name, &value, "text in UTF-8".into()))
        }
    }
}

/// The value of a variable as a whole number from 1 to `most`, or `None` if it is unset or empty.
///
/// # Errors
/// `MetroFastError` if it is anything else.
pub(crate) fn count(name: &'static str, most: usize) -> PyResult<Option<usize>> {
    let Some(value) = text(name)? else { return Ok(None) };
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits && (1..=most).contains(&number) => Ok(Some(number)),
        _ => Err(refused(name, &value, format!("a whole number from 1 to {most}, or nothing"))),
    }
}

/// The error for a value that a variable cannot have.
fn refused(name: &'static str, value: &str, expected: String) -> PyErr {
    to_python(Error::argument(name, value, expected))
}
