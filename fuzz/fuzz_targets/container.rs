//! Decodes a safetensors container: all tensors are inside the file and do not overlap.
#![no_main]

use metro_fast_core::expert::container;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(mut places) = container::decode(data) {
        places.sort_by_key(|place| place.bytes.start);
        for pair in places.windows(2) {
            assert!(pair[0].bytes.end <= pair[1].bytes.start);
        }
        for place in places {
            assert!(data.get(place.bytes).is_some());
        }
    }
});
