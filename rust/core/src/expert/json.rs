//! JSON text whose memory may be refused.

use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::{Error, Result, memory};

/// Writes a value whose keys are strings as JSON without white space.
///
/// # Errors
/// [`Error::Memory`] if there is not enough memory.
pub(super) fn json_text(value: &impl Serialize) -> Result<String> {
    let mut text = Growing(Vec::new());
    // Strings and numbers always have a JSON form, so only the memory can fail.
    serde_json::to_writer(&mut text, value)
        .map_err(|_| Error::Memory { bytes: text.0.capacity().saturating_mul(2) })?;
    String::from_utf8(text.0).map_err(|error| Error::Format(error.to_string()))
}

/// Bytes that are written one after another.
struct Growing(Vec<u8>);

impl Write for Growing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        memory::grow(&mut self.0, bytes.len()).map_err(|_| ErrorKind::OutOfMemory)?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
