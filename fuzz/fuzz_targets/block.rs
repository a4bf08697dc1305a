//! Decodes a packed block, unchanged and with corrected checksums.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metro_fast_fuzz::decode_block(data);
    let mut corrected = data.to_vec();
    metro_fast_fuzz::correct_block(&mut corrected);
    metro_fast_fuzz::decode_block(&corrected);
});
