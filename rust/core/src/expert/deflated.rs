//! The manifest's text in deflated form; its size is bounded before it is inflated.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::{Error, Result, memory};

const MAX_MANIFEST: usize = 64 << 20;
/// Deflate cannot compress by a larger factor (258 bytes to 2 bits).
const MAX_INFLATION: usize = 1032;
const LEVEL: i32 = 9;
/// Bytes that a compressor takes for itself.
const COMPRESSOR: usize = 1 << 20;

/// Deflates a manifest.
///
/// # Errors
/// [`Error::Format`] if it is longer than [`inflate`] accepts, [`Error::Memory`] if there is not
/// enough memory.
pub(super) fn deflate(json: &str) -> Result<Vec<u8>> {
    if json.len() > MAX_MANIFEST {
        let size = json.len();
        return bad(format!(
            "the manifest has {size} bytes, but at most {MAX_MANIFEST} are allowed"
        ));
    }
    // Bytes that do not compress are stored in blocks, with a few bytes for each.
    let mut deflated = memory::zeros(json.len() + json.len() / 8 + 1024)?;
    memory::expect(COMPRESSOR)?;
    let mut state = CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, 0, 0));
    let (status, read, written) =
        compress(&mut state, json.as_bytes(), &mut deflated, TDEFLFlush::Finish);
    if status != TDEFLStatus::Done || read != json.len() {
        return bad(format!("the manifest of {} bytes cannot be deflated", json.len()));
    }
    deflated.truncate(written);
    Ok(deflated)
}

/// Inflates a manifest that claims to have `size` bytes.
///
/// # Errors
/// [`Error::Format`] if that is impossible or too much, or the bytes are damaged;
/// [`Error::Memory`] if there is not enough memory.
pub(super) fn inflate(deflated: &[u8], size: usize) -> Result<String> {
    if size > MAX_MANIFEST || size > deflated.len().saturating_mul(MAX_INFLATION) {
        return bad(format!(
            "the manifest has {} bytes and claims to inflate to {size}, which is impossible or too much",
            deflated.len()
        ));
    }
    let mut json = memory::zeros(size)?;
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
    use miniz_oxide::deflate::compress_to_vec;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_whole_compressor() {
        let mut state = 1u64;
        for len in [0, 1, 100, 70_000, 300_000] {
            for bits in [1, 3, 7] {
                let next = |_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                    char::from((state >> 40) as u8 & ((1 << bits) - 1))
                };
                let text: String = (0..len).map(next).collect();
                assert_eq!(deflate(&text).unwrap(), compress_to_vec(text.as_bytes(), 9));
            }
        }
    }

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
