//! Decodes an expert file, unchanged and rebuilt from its damaged parts with correct checksums.
#![no_main]

use metro_fast_core::expert::{container, decode};
use metro_fast_core::ternary::codec::Block;
use metro_fast_core::ternary::{Segment, expand};
use metro_fast_fuzz::{decode_block, expert_file};

fn read(file: &[u8]) {
    let Ok(parts) = decode(file) else { return };
    let bytes = &file[parts.block];
    decode_block(bytes);
    let block = Block::parse(bytes).unwrap();
    if block.count() > 1 << 22 {
        return;
    }
    let segments: Vec<Segment<f32>> = parts
        .manifest
        .tensors
        .iter()
        .map(|tensor| {
            let scale = parts.scales[tensor.group as usize];
            Segment {
                start: tensor.start as usize,
                len: tensor.shape.iter().product::<u64>() as usize,
                values: Some([-scale, 0.0, scale]),
            }
        })
        .collect();
    let mut out = vec![0.0; block.count()];
    let _ = expand(&block, &segments, &mut out, 1);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    read(data);
    // If the container is whole, take the parts of the file.
    let mut parts: [&[u8]; 4] = [&[]; 4];
    let inflated;
    if let Ok(places) = container::decode(data) {
        let bytes = |name: &str| {
            places
                .iter()
                .find(|place| place.name == name)
                .map_or(&[][..], |p| &data[p.bytes.clone()])
        };
        let manifest = bytes("compeft.manifest");
        let limit = 1 << 16;
        inflated = miniz_oxide::inflate::decompress_to_vec_with_limit(manifest, limit)
            .unwrap_or_else(|error| error.output);
        let dense = places.iter().find(|place| place.name.starts_with("dense."));
        let dense = dense.map_or(&[][..], |place| &data[place.bytes.clone()]);
        parts = [&inflated, bytes("compeft.scales"), bytes("compeft.trits"), dense];
    } else {
        // Otherwise the bytes are three lengths and four parts.
        let Some((lengths, mut rest)) = data.split_first_chunk::<6>() else { return };
        for (i, length) in lengths.as_chunks::<2>().0.iter().enumerate() {
            let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
            (parts[i], rest) = rest.split_at(length);
        }
        parts[3] = rest;
    }
    read(&expert_file(parts[0], parts[1], parts[2], parts[3]));
});
