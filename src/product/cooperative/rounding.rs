//! Operands that are stored as f32: rounded to f16 on their way, A scaled by a power of two before, the sums by its inverse behind.

use super::operand::Operand;
use crate::gpu::element::Element;
use crate::gpu::kernel::KernelSource;
use crate::gpu::shaders::shader;

/// The exponent that the largest number of A gets.
const LARGEST_EXPONENT: i32 = 14;

/// Whether A is scaled.
pub(in crate::product) fn is_scaled(a: Element) -> bool {
    a == Element::F32
}

/// The powers of two of A and of the sums, `unscale`.
pub(super) fn scale(scaled: bool) -> String {
    if !scaled {
        return String::new();
    }
    format!(
        "    let power = power_for(control[6], {LARGEST_EXPONENT});
    a_scale = bitcast<f32>(power);
    let unscale = inverse_of(power);
"
    )
}

/// What the generated code names.
pub(super) fn declare(source: KernelSource, elements: [Element; 3]) -> KernelSource {
    let mut source = source;
    if is_scaled(elements[0]) {
        source = source.with_file(shader!("shared/powers")).with_text("var<private> a_scale: f32;\n");
    }
    // Only what is bound as f16 says that there are such numbers.
    source.wgsl.insert_str(0, if elements.contains(&Element::F16) { "" } else { "enable f16;\n" });
    source
}

impl Operand {
    /// A unit that is fetched, as what is kept. It is rounded no sooner, for it is on its way till then.
    pub(super) fn narrowed(&self, unit: &str) -> String {
        if self.single { format!("narrow_{}({unit})", self.name) } else { unit.into() }
    }

    /// The functions that fetch f16, made to fetch f32, and the one that rounds.
    pub(super) fn widened(&self, fetch: &str) -> String {
        if !self.single {
            return fetch.into();
        }
        let wide = [("vec4h", "vec4f"), ("0.0h", "0.0"), ("f16", "f32")]
            .iter()
            .fold(fetch.to_string(), |text, (half, single)| text.replace(half, single));
        let (name, scale) = (self.name, if self.name == "a" { " * a_scale" } else { "" });
        let rounds = format!("fn narrow_{name}(it: vec4f) -> vec4h {{ return vec4h(it{scale}); }}");
        format!("{wide}{rounds}\n")
    }
}
