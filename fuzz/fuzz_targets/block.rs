//! The packed block, as it is and with its checksums mended.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    metro_fast_fuzz::decode_block(data);
    let mut mended = data.to_vec();
    metro_fast_fuzz::mend_block(&mut mended);
    metro_fast_fuzz::decode_block(&mended);
});
