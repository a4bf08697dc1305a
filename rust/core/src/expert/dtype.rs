//! Element types of tensors, under the names that safetensors gives them.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Dtype {
    BOOL,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of an element.
    pub fn size(self) -> u64 {
        match self {
            Self::BOOL | Self::U8 | Self::I8 => 1,
            Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// The dtype of this name.
    ///
    /// # Errors
    /// [`Error::Argument`] if an expert cannot have tensors of this dtype.
    pub fn parse(name: &str) -> Result<Self> {
        use Dtype::{BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8};
        [BOOL, U8, I8, I16, I32, I64, F16, BF16, F32, F64]
            .into_iter()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| Error::argument("dtype", name, "a plain integer or float type"))
    }

    /// The name in a safetensors header.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}
