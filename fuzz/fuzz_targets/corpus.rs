//! Opens a corpus index and reads everything through it: the items, the blocks and the tokens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| metro_fast_fuzz::corpus(data));
