//! The manifest's text in deflated form; its size is bounded before it is inflated.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::{Error, Result};

const MAX_MANIFEST: usize = 64 << 20;
/// Deflate cannot compress by a larger factor (258 bytes to 2 bits).
const MAX_INFLATION: usize = 1032;
const LEVEL: u8 = 9;

/// Deflates a manifest.
///
/// # Errors
/// [`Error::Format`] if it is longer than [`inflate`] accepts.
pub(super) fn deflate(json: &str) -> Result<Vec<u8>> {
    if json.len() > MAX_MANIFEST {
        let size = json.len();
        return bad(format!(
            "the manifest has {size} bytes, but at most {MAX_MANIFEST} are allowed"
        ));
    }
    Ok(compress_to_vec(json.as_bytes(), LEVEL))
}

/// Inflates a manifest that claims to have `size` bytes.
///
/// # Errors
/// [`Error::Format`] if that is impossible or too much, or the bytes are damaged.
pub(super) fn inflate(deflated: &[u8], size: usize) -> Result<String> {
    if size > MAX_MANIFEST || size > deflated.len().saturating_mul(MAX_INFLATION) {
        return bad(format!(
            "the manifest has {} bytes and claims to inflate to {size}, which is impossible or too much",
            deflated.len()
        ));
    }
    let mut json = vec![0; size];
    let mut state = DecompressorOxide::new();
    let (status, read, written) =
        decompress(&mut state, deflated, &mut json, 0, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
    if status != TINFLStatus::Done || read != deflated.len() || written != size {
        return bad(format!("the manifest does not inflate to its {size} bytes ({status:?})"));
    }
    String::from_utf8(json).map_err(|error| Error::Format(format!("expert manifest: {error}")))
}

fn bad<T>(problem: String) -> Result<T> {
    Err(Error::Format(format!("expert file: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inflate_bomb_is_refused_before_it_is_inflated() {
        let zeros = compress_to_vec(&vec![b' '; 1 << 20], 9);
        assert!(inflate(&zeros, 1 << 20).is_ok());
        assert!(inflate(&zeros, (1 << 20) - 1).is_err());
        assert!(inflate(&zeros, (1 << 20) + 1).is_err());
        assert!(inflate(&zeros, MAX_MANIFEST + 1).is_err());
        assert!(inflate(&zeros, usize::MAX).is_err());
        assert!(inflate(&zeros[..20], 1 << 20).is_err());
    }
}
