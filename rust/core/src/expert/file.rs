//! The safetensors container of an expert, and its checks (docs/expert-format.md, sections 2 and 7).

use std::ops::Range;

use super::container::{self, Entry, Place};
use super::deflated::{deflate, inflate};
use super::manifest::{Dense, Manifest, VERSIONS, elements};
use crate::interrupt::checksum;
use crate::shown::shown;
use crate::ternary::codec::Block;
use crate::{Error, Result, memory};

const HEAD: &str = "compeft.head";
const MANIFEST: &str = "compeft.manifest";
const SCALES: &str = "compeft.scales";
const TRITS: &str = "compeft.trits";
const DENSE: &str = "dense.";
/// Bytes that the name and the shape of an entry take, and more where the name is long.
const ENTRY: usize = 512;

/// The parts of a checked expert file, and their positions in it.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The description that the file carries.
    pub manifest: Manifest,
    /// The scale of each group.
    pub scales: Vec<f32>,
    /// The bytes of the packed block.
    pub block: Range<usize>,
    /// The bytes of each dense tensor, in the manifest's order.
    pub dense: Vec<Range<usize>>,
}

/// Makes the bytes of an expert file; the same parts always make the same bytes.
///
/// # Errors
/// [`Error::Format`] if the parts do not fit each other: the result is always a file that
/// [`decode`] accepts.
pub fn encode(
    manifest: &Manifest,
    scales: &[f32],
    block: &[u8],
    dense: &[&[u8]],
) -> Result<Vec<u8>> {
    let json = manifest.to_json()?;
    let deflated = deflate(&json)?;
    let scales = memory::collect(scales.iter().flat_map(|scale| scale.to_le_bytes()))?;
    let version = [manifest.version, json.len() as u32];
    let crc = head_crc(version, &deflated, &scales, Block::parse(block)?.head());
    let head: Vec<u8> =
        [version[0], version[1], crc, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
    if dense.len() != manifest.dense.len() {
        return bad(format!(
            "{} dense tensors are given, but the manifest names {}",
            dense.len(),
            manifest.dense.len()
        ));
    }
    memory::expect(ENTRY * (4 + dense.len()))?;
    let mut tensors = memory::with_room(4 + dense.len())?;
    tensors.extend([
        Entry::new(SCALES, "F32", 4, vec![scales.len() as u64 / 4], &scales),
        Entry::new(HEAD, "U32", 4, vec![4], &head),
        Entry::new(MANIFEST, "U8", 1, vec![deflated.len() as u64], &deflated),
        Entry::new(TRITS, "U8", 1, vec![block.len() as u64], block),
    ]);
    for (entry, bytes) in manifest.dense.iter().zip(dense) {
        let name = format!("{DENSE}{}", entry.name);
        let shape = entry.shape.clone();
        tensors.push(Entry::new(&name, &entry.dtype.name(), entry.dtype.size(), shape, bytes));
    }
    let about = "ComPEFT expert of metro_fast, see docs/expert-format.md";
    let file = container::encode(tensors, &[("about", about), ("format", "compeft")])?;
    decode(&file)?;
    Ok(file)
}

/// Checks the bytes of an expert file, except the coded symbols and the gaps between tensors.
///
/// # Errors
/// [`Error::Format`] if they are not a whole, undamaged expert file of a known version.
pub fn decode(file: &[u8]) -> Result<Parts> {
    let container = Container { file, places: container::decode(file)? };
    let head = words(&file[container.get(HEAD, "U32", None)?])?;
    let found = head.first().copied().unwrap_or_default();
    if !VERSIONS.contains(&found) {
        return bad(format!(
            "the format has version {found}, this reader knows 1 to 3: update metro_fast"
        ));
    }
    let [version, inflated, crc, zero] = head[..] else {
        return bad(format!("the head has {} words, expected 4", head.len()));
    };
    let manifest = container.get(MANIFEST, "U8", None)?;
    let scales = container.get(SCALES, "F32", None)?;
    let block_range = container.get(TRITS, "U8", None)?;
    let block = Block::parse(&file[block_range.clone()])?;
    let scales = &file[scales];
    if zero != 0
        || crc != head_crc([version, inflated], &file[manifest.clone()], scales, block.head())
    {
        return bad("the checksum of manifest, scales and index does not match: damaged".into());
    }
    let manifest = Manifest::parse(&inflate(&file[manifest], inflated as usize)?)?;
    if manifest.version != version {
        return bad(format!(
            "the manifest has version {}, but the head has {version}",
            manifest.version
        ));
    }
    let scales = memory::collect(self::words(scales)?.into_iter().map(f32::from_bits))?;
    if scales.len() != manifest.groups.len() {
        let groups = manifest.groups.len();
        return bad(format!(
            "there are {} scales, expected one for each of {groups} groups",
            scales.len()
        ));
    }
    if let Some(at) = scales.iter().position(|s| !s.is_finite() || s.is_sign_negative()) {
        return bad(format!(
            "the scales have {:?} at {at}, expected all to be finite and not negative",
            scales[at]
        ));
    }
    if block.count() as u64 != manifest.trits() {
        return bad(format!(
            "the block has {} trits, but the tensors need {}",
            block.count(),
            manifest.trits()
        ));
    }
    let mut dense = memory::with_room(manifest.dense.len())?;
    for entry in &manifest.dense {
        dense.push(container.dense(entry)?);
    }
    if container.places.len() != 4 + dense.len() {
        return bad("it has tensors that the manifest does not name".into());
    }
    Ok(Parts { manifest, scales, block: block_range, dense })
}

struct Container<'a> {
    file: &'a [u8],
    places: Vec<Place>,
}

impl Container<'_> {
    /// The bytes of a tensor of this dtype and shape; `None` stands for any one-dimensional shape.
    fn get(&self, name: &str, dtype: &str, shape: Option<&[u64]>) -> Result<Range<usize>> {
        let Ok(found) = self.places.binary_search_by_key(&name, |place| &place.name) else {
            return bad(format!(
                "there is no tensor {}: this is not an expert of metro_fast, or it is damaged",
                shown(name)
            ));
        };
        let Place { dtype: found, shape: sizes, bytes, .. } = &self.places[found];
        let sizes: Vec<u64> = sizes.iter().map(|size| *size as u64).collect();
        if found != dtype || !shape.map_or(sizes.len() == 1, |shape| shape == sizes) {
            return bad(format!(
                "{} is {found} {sizes:?}, expected {dtype} {shape:?}",
                shown(name)
            ));
        }
        Ok(bytes.clone())
    }

    fn dense(&self, entry: &Dense) -> Result<Range<usize>> {
        elements(&entry.name, &entry.shape)?;
        let name = format!("{DENSE}{}", entry.name);
        let range = self.get(&name, &entry.dtype.name(), Some(&entry.shape))?;
        if checksum(0, &self.file[range.clone()])? != entry.crc32c {
            return bad(format!("{} does not match its checksum: damaged", shown(&name)));
        }
        Ok(range)
    }
}

fn head_crc(version: [u32; 2], manifest: &[u8], scales: &[u8], block_head: &[u8]) -> u32 {
    let start: Vec<u8> = version.iter().flat_map(|word| word.to_le_bytes()).collect();
    [manifest, scales, block_head]
        .iter()
        .fold(crc32c::crc32c(&start), |crc, bytes| crc32c::crc32c_append(crc, bytes))
}

fn words(bytes: &[u8]) -> Result<Vec<u32>> {
    memory::collect(bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)))
}

fn bad<T>(problem: String) -> Result<T> {
    Err(Error::Format(format!("expert file: {problem}")))
}

#[cfg(test)]
mod tests;
