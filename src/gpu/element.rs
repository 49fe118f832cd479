//! How numbers lie in storage buffers, and the WGSL that reads and writes them as f32.

use std::fmt::Write;

use crate::gpu::dtype::Dtype;

/// How a kernel may use a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
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
