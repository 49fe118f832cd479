//! How numbers lie in storage buffers, and the WGSL that reads and writes them as f32.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;

use half::f16;

use crate::error::{Error, Result};
use crate::gpu::kernel::Access;

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
    /// of the parameters down again.
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

    /// Bytes of a buffer of so many, in whole words.
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

/// How the numbers of a buffer are stored. Kernels compute in f32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Element {
    #[default]
    F32,
    /// As WGSL's f16: the device has `shader-f16`.
    F16,
    /// The same bytes as two to a u32, for devices without. No thread can write one of them alone, so they are only read.
    PackedF16,
}

impl Element {
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::PackedF16];

    pub fn dtype(self) -> Dtype {
        if self == Self::F32 { Dtype::F32 } else { Dtype::F16 }
    }

    /// How kernels store what ends up so: packed numbers are written as f32 and packed by a dispatch of their own.
    pub fn written(self) -> Self {
        if self == Self::F16 { Self::F16 } else { Self::F32 }
    }

    /// What the array of a binding holds, `quads` if four numbers at a time.
    pub fn wgsl(self, quads: bool) -> &'static str {
        match (self, quads) {
            (Self::F32, false) => "f32",
            (Self::F32, true) => "vec4f",
            (Self::F16, false) => "f16",
            (Self::F16, true) => "vec4h",
            (Self::PackedF16, false) => "u32",
            (Self::PackedF16, true) => "vec2u",
        }
    }

    /// `load_NAME(i)`; by fours also `load4_NAME(i)`, which counts them. If written `store_NAME` or `store4_NAME`.
    pub fn accessors(self, name: &str, access: Access, quads: bool) -> String {
        let (load, value) = match (self, quads) {
            (Self::F32, _) => ("values", "given"),
            (Self::F16, false) => ("f32(values)", "f16(value)"),
            (Self::F16, true) => ("vec4f(values)", "vec4h(value)"),
            (Self::PackedF16, false) => ("unpack2x16float(values)", ""),
            (Self::PackedF16, true) => ("vec4f(unpack2x16float(values.x), unpack2x16float(values.y))", ""),
        };
        let (suffix, ty) = if quads { ("4", "vec4f") } else { ("", "f32") };
        let mut wgsl = String::new();
        let _ = if self == Self::PackedF16 && !quads {
            writeln!(wgsl, "fn load_{name}(i: u32) -> f32 {{ let values = {name}[i / 2u]; return {load}[i % 2u]; }}")
        } else {
            writeln!(wgsl, "fn load{suffix}_{name}(i: u32) -> {ty} {{ let values = {name}[i]; return {load}; }}")
        };
        if quads {
            let _ = writeln!(wgsl, "fn load_{name}(i: u32) -> f32 {{ return load4_{name}(i / 4u)[i % 4u]; }}");
        }
        if access == Access::ReadWrite && self != Self::PackedF16 {
            let given = if self == Self::F16 { f16_range(quads) } else { String::new() };
            let _ = writeln!(wgsl, "fn store{suffix}_{name}(i: u32, given: {ty}) {{ {given}{name}[i] = {value}; }}");
        }
        wgsl
    }
}

/// Makes `value` of `given`, infinite where f16 cannot hold it: WGSL leaves that conversion open. What is 65,520 or above rounds to
/// infinity, a NaN stays one.
fn f16_range(quads: bool) -> String {
    let [float, word] = if quads { ["vec4f", "vec4u"] } else { ["f32", "u32"] };
    let both = if quads { "&" } else { "&&" };
    format!(
        "let bits = bitcast<{word}>(given); let magnitude = bits & {word}(0x7fffffffu); \
         let infinite = bitcast<{float}>((bits & {word}(0x80000000u)) | {word}(0x7f800000u)); \
         let value = select(given, infinite, (magnitude >= {word}(0x477ff000u)) {both} (magnitude <= {word}(0x7f800000u))); "
    )
}
