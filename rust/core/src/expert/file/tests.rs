use proptest::prelude::*;

use super::super::dtype::Dtype;
use super::super::manifest::{AlphaRule, Base, Group, Initial, Kind, Scope, Tensor};
use super::super::metadata::Metadata;
use super::*;
use crate::simd::Level;
use crate::ternary::codec::{Coding, pack};

fn example(count: u64, density: u64) -> Vec<u8> {
    example_with(count, density, Metadata::new())
}

fn example_with(count: u64, density: u64, metadata: Metadata) -> Vec<u8> {
    let dense = [1u8, 2, 3, 4, 5, 6];
    let tensor = |name: &str, start| Tensor {
        dtype: Dtype::F32,
        group: 0,
        initial: Initial::Zero,
        name: name.into(),
        shape: vec![count],
        start,
    };
    let second = count.next_multiple_of(32);
    let manifest = Manifest {
        alpha_rule: AlphaRule::Fixed,
        base: Base { initial_crc32c: None, model: Some("t5".into()), revision: None },
        config_crc32c: None,
        dense: vec![Dense {
            crc32c: crc32c::crc32c(&dense),
            dtype: Dtype::I16,
            name: "head".into(),
            shape: vec![3],
        }],
        groups: vec![Group { alpha: 1.0, density: 0.2, name: "lora_A".into() }],
        kind: Kind::Lora,
        version: if metadata.is_empty() { 1 } else { 2 },
        metadata,
        scope: Scope::Role,
        tensors: vec![tensor("a", 0), tensor("b", second)],
    };
    let mut trits = vec![0i8; 2 * second as usize];
    for (i, trit) in trits.iter_mut().enumerate().take(count as usize) {
        *trit = i8::from((i as u64 * 7919) % 100 < density) * if i % 2 == 0 { 1 } else { -1 };
    }
    let block = pack(&trits, Coding::T4, 512, Level::best(), 1).unwrap();
    encode(&manifest, &[0.25], &block, &[&dense]).unwrap()
}

/// Everything that a reader gets from a file.
type Content = (Manifest, Vec<f32>, Vec<i8>, Vec<Vec<u8>>);

fn content(file: &[u8]) -> Result<Content> {
    let parts = decode(file)?;
    let block = Block::parse(&file[parts.block])?;
    let mut trits = vec![0; block.count()];
    block.unpack([-1, 0, 1], &mut trits, 1)?;
    let dense = parts.dense.into_iter().map(|range| file[range].to_vec()).collect();
    Ok((parts.manifest, parts.scales, trits, dense))
}

#[test]
fn round_trip_and_same_bytes() {
    let file = example(5000, 20);
    assert_eq!(file, example(5000, 20));
    let (manifest, scales, trits, dense) = content(&file).unwrap();
    assert_eq!((manifest.trits(), trits.len()), (10_048, 10_048));
    assert_eq!((scales, dense), (vec![0.25], vec![vec![1, 2, 3, 4, 5, 6]]));
    safetensors::SafeTensors::deserialize(&file).unwrap();
}

#[test]
fn a_file_without_metadata_has_version_1_and_the_versions_agree() {
    let metadata = Metadata::from([("lora_adapter_metadata".into(), "{\"r\": 4}".into())]);
    let second = example_with(40, 30, metadata.clone());
    assert_eq!(decode(&second).unwrap().manifest.metadata, metadata);
    let first = example(40, 30);
    for (file, version) in [(&first, 1), (&second, 2)] {
        let places = container::decode(file).unwrap();
        let head = places.iter().find(|place| place.name == HEAD).unwrap().bytes.clone();
        assert_eq!(words(&file[head.clone()]).unwrap()[0], version);
        // Under the other version, with a checksum that fits.
        let mut forged = file.clone();
        forged[head.start] = 3 - version as u8;
        let bytes = |name| &file[places.iter().find(|p| p.name == name).unwrap().bytes.clone()];
        let block = Block::parse(bytes(TRITS)).unwrap();
        let sizes = [3 - version, words(bytes(HEAD)).unwrap()[1]];
        let crc = head_crc(sizes, bytes(MANIFEST), bytes(SCALES), block.head());
        forged[head.start + 8..head.start + 12].copy_from_slice(&crc.to_le_bytes());
        let message = decode(&forged).unwrap_err().to_string();
        assert!(message.contains("but the head has"), "{message}");
    }
}

#[test]
fn every_cut_and_every_flipped_byte() {
    for metadata in [Metadata::new(), Metadata::from([("a".into(), "b".repeat(50))])] {
        damage_everywhere(&example_with(40, 30, metadata));
    }
}

fn damage_everywhere(file: &[u8]) {
    let whole = content(file).unwrap();
    for end in 0..file.len() {
        assert!(matches!(decode(&file[..end]), Err(Error::Format(_))), "cut at {end}");
    }
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut flipped = file.to_vec();
            flipped[at] ^= 1 << bit;
            if let Ok(read) = content(&flipped) {
                assert_eq!(read, whole, "byte {at} bit {bit}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_never_panics_and_never_changes_content(
        at: prop::sample::Index, byte: u8, from: prop::sample::Index, len in 0..64usize,
    ) {
        let file = example(3000, 25);
        let whole = content(&file).unwrap();
        let mut spliced = file.clone();
        let (at, from) = (at.index(file.len()), from.index(file.len()));
        spliced[at] = byte;
        let len = len.min(file.len() - at.max(from));
        spliced.copy_within(from..from + len, at);
        if let Ok(read) = content(&spliced) {
            prop_assert_eq!(&read, &whole);
        }
        let mut longer = file.clone();
        longer.insert(at, byte);
        prop_assert!(content(&longer).is_err());
    }
}
