//! Parses a manifest: writing it and parsing it again gives the same manifest.
#![no_main]

use metro_fast_core::expert::Manifest;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(manifest) = Manifest::parse(text) {
        let json = manifest.to_json().unwrap();
        assert_eq!(Manifest::parse(&json).unwrap().to_json().unwrap(), json);
        let _ = manifest.trits();
    }
});
