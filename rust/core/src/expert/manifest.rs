//! The manifest of an expert file (docs/expert-format.md, section 3).
//!
//! Fields are declared in alphabetical order, which is the order in which they are written.

use serde::{Deserialize, Deserializer, Serialize};

use super::dtype::Dtype;
use super::json::json_text;
use super::metadata::{self, Metadata};
use super::shapes::product;
use crate::shown::shown;
use crate::{Error, Result, memory};

/// The format versions that this code reads and writes: the second one has metadata, the third one
/// the checksum of a configuration, with or without metadata.
pub const VERSIONS: [u32; 3] = [1, 2, 3];
/// Tensors start at multiples of this many trits.
pub const ALIGNMENT: u64 = 32;
const MAX_TRITS: u64 = 1 << 40;
const MAX_DIMENSIONS: usize = 8;
/// The most tensors of an expert, ternary and dense together: more than any published model has.
pub(super) const MAX_TENSORS: usize = 1 << 17;
/// Bytes that are allocated for each byte of JSON, in pieces: `"":0,` makes the largest share.
const PER_BYTE: usize = 16;

/// The description of an expert, which its file carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Manifest {
    pub alpha_rule: AlphaRule,
    pub base: Base,
    // Versions 1 and 2 do not know the key, so it must be absent there.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub config_crc32c: Option<u32>,
    pub dense: Vec<Dense>,
    pub groups: Vec<Group>,
    pub kind: Kind,
    // Version 1 does not know the key, so it must be absent there.
    #[serde(
        default,
        deserialize_with = "metadata::deserialize",
        skip_serializing_if = "Metadata::is_empty"
    )]
    pub metadata: Metadata,
    pub scope: Scope,
    pub tensors: Vec<Tensor>,
    pub version: u32,
}

/// The model that the expert was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Base {
    // Without this, serde would take a missing field for None.
    #[serde(deserialize_with = "Option::deserialize")]
    pub initial_crc32c: Option<u32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub model: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub revision: Option<String>,
}

/// A tensor that is stored whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Dense {
    pub crc32c: u32,
    pub dtype: Dtype,
    pub name: String,
    pub shape: Vec<u64>,
}

/// Tensors that share a scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Group {
    pub alpha: f64,
    pub density: f64,
    pub name: String,
}

/// A tensor that is stored as trits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Tensor {
    pub dtype: Dtype,
    pub group: u64,
    pub initial: Initial,
    pub name: String,
    pub shape: Vec<u64>,
    pub start: u64,
}

/// The rule that the scales follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum AlphaRule {
    Fixed,
    LeastSquares,
}

/// The kind of finetuning that made the expert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Kind {
    Lora,
    Ia3,
    Prompt,
    Full,
    Other,
}

/// The tensors that form a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Scope {
    Role,
    Global,
    Tensor,
}

/// The value that a zero trit stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Initial {
    Zero,
    One,
    Given,
}

/// The number of entries of a tensor of this shape.
///
/// # Errors
/// [`Error::Format`] if there are too many dimensions or the product overflows, in which a size of 0
/// counts as 1: numpy and PyTorch refuse such shapes.
pub fn elements(name: &str, shape: &[u64]) -> Result<u64> {
    match product(shape) {
        Some(n) if shape.len() <= MAX_DIMENSIONS && n <= MAX_TRITS => {
            Ok(if shape.contains(&0) { 0 } else { n })
        }
        _ => bad(format!(
            "{} has the impossible shape {:?} (of {} dimensions)",
            shown(name),
            &shape[..shape.len().min(MAX_DIMENSIONS)],
            shape.len()
        )),
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not a manifest of a known version whose parts fit each other,
    /// [`Error::Memory`] if there is not enough memory.
    pub fn parse(json: &str) -> Result<Self> {
        memory::expect(json.len().saturating_mul(PER_BYTE).saturating_add(1 << 16))?;
        let manifest: Self = serde_json::from_str(json)
            .map_err(|error| Error::Format(format!("expert manifest: {error}")))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Canonical JSON.
    ///
    /// # Errors
    /// [`Error::Memory`] if there is not enough memory.
    pub fn to_json(&self) -> Result<String> {
        json_text(self)
    }

    /// The number of trits in the flat sequence, including the gaps between tensors.
    pub fn trits(&self) -> u64 {
        self.tensors.last().map_or(0, |last| {
            let len: u64 = last.shape.iter().product();
            (last.start + len).next_multiple_of(ALIGNMENT)
        })
    }

    /// Whether decoding needs the initial values that the expert was made with.
    pub fn needs_initial(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.initial == Initial::Given)
    }

    fn check(&self) -> Result<()> {
        metadata::check(&self.metadata)?;
        // An expert has one form: each version is for those that the earlier ones cannot hold.
        let version = match (self.config_crc32c, self.metadata.is_empty()) {
            (Some(_), _) => 3,
            (None, false) => 2,
            (None, true) => 1,
        };
        if self.version != version {
            return bad(format!("it has version {}, expected {version}", self.version));
        }
        let count = self.tensors.len() + self.dense.len();
        if count > MAX_TENSORS {
            return bad(format!("it has {count} tensors, but at most {MAX_TENSORS} are allowed"));
        }
        let mut free = 0u64;
        for tensor in &self.tensors {
            let name = &tensor.name;
            let wrong = |what: String| bad(format!("{} {what}", shown(name)));
            if !matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
                let dtype = tensor.dtype;
                return wrong(format!(
                    "is ternary and has dtype {dtype:?}, expected F32, F16 or BF16"
                ));
            }
            if tensor.group >= self.groups.len() as u64 {
                let (group, count) = (tensor.group, self.groups.len());
                return wrong(format!("belongs to group {group}, expected an index below {count}"));
            }
            if tensor.start != free {
                return wrong(format!("starts at {}, expected {free}", tensor.start));
            }
            // Both summands are at most 2^40, so the sum cannot overflow.
            free = (free + elements(name, &tensor.shape)?).next_multiple_of(ALIGNMENT);
            if free > MAX_TRITS {
                return bad(format!("it describes more than {MAX_TRITS} trits"));
            }
        }
        for dense in &self.dense {
            elements(&dense.name, &dense.shape)?;
        }
        ascending(self.tensors.iter().map(|tensor| tensor.name.as_str()))?;
        ascending(self.dense.iter().map(|dense| dense.name.as_str()))?;
        let ternary = |name: &str| self.tensors.binary_search_by_key(&name, |t| &t.name).is_ok();
        if let Some(twice) = self.dense.iter().find(|dense| ternary(&dense.name)) {
            return bad(format!("{} is both ternary and dense", shown(&twice.name)));
        }
        if self.needs_initial() != self.base.initial_crc32c.is_some() {
            return bad(
                "initial_crc32c must be present if and only if a tensor has given initial values"
                    .into(),
            );
        }
        if self.groups.iter().any(|g| !g.alpha.is_finite() || !g.density.is_finite()) {
            return bad("the alpha or density of a group is not finite".into());
        }
        Ok(())
    }
}

/// Reads a number that is there: null would be a second form of its absence.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<u32>, D::Error> {
    u32::deserialize(deserializer).map(Some)
}

fn ascending<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    match names.clone().zip(names.skip(1)).find(|(a, b)| a >= b) {
        None => Ok(()),
        Some((a, b)) => bad(format!("{} follows {}, expected ascending names", shown(b), shown(a))),
    }
}

fn bad<T>(problem: String) -> Result<T> {
    Err(Error::Format(format!("expert manifest: {problem}")))
}

#[cfg(test)]
// Equality to the last bit is promised.
#[allow(clippy::float_cmp)]
mod tests;
