//! [`Dtype`]: how an app stores numbers on the GPU.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use half::f16;

use crate::error::{Error, Result};

/// How a network's parameters, input and output, and the gradients of input and output, are stored on the GPU. All arithmetic is
/// in f32, and so are initial and final states, their gradients, and the gradients of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dtype {
    /// 4 bytes each.
    #[default]
    F32,
    /// IEEE 754's binary16, 2 bytes each; a buffer of an odd number of them ends with 2 bytes of padding. Values above 65,504 become
    /// infinite and those below 6·10⁻⁸ become 0, which gradients that come in may well be: scale the loss up, and the gradients
    /// of the parameters down again, as [`Trainer`](crate::train::Trainer) does.
    F16,
}

impl Dtype {
    /// The name that the command uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }

    /// The number that is read back when this one is stored.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }

    /// Size in bytes of a buffer of `elements`, rounded up to whole words.
    pub(crate) fn size_of(self, elements: u64) -> u64 {
        match self {
            Self::F32 => elements * 4,
            Self::F16 => (elements * 2).next_multiple_of(4),
        }
    }

    /// The bytes of a buffer of these values, for [`Context::upload`](crate::Context::upload).
    pub fn encode(self, values: &[f32]) -> Cow<'_, [u8]> {
        match self {
            Self::F32 => bytemuck::cast_slice(values).into(),
            Self::F16 => {
                let mut bytes: Vec<u8> = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                bytes.into()
            }
        }
    }

    /// The first `len` values of a buffer that [`Context::download`](crate::Context::download) gave the words of.
    pub fn decode(self, words: Vec<f32>, len: usize) -> Vec<f32> {
        match self {
            Self::F32 => words,
            Self::F16 => {
                let halves = words.iter().flat_map(|word| [word.to_bits() as u16, (word.to_bits() >> 16) as u16]);
                halves.take(len).map(|bits| f16::from_bits(bits).to_f32()).collect()
            }
        }
    }
}

impl Display for Dtype {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = [Self::F32, Self::F16];
        known.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "dtype",
            name: name.into(),
            known: known.map(Self::name).join(", "),
        })
    }
}
