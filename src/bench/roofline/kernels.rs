//! The WGSL that peaks are measured with.

use std::fmt::Write as _;

/// Threads of a workgroup.
pub const THREADS: u32 = 256;
/// Independent chains of a thread: as many as hide the latency of an FMA on any GPU.
pub const CHAINS: u32 = 8;
/// Links of each chain in one round of the loop, an even number: so many that the loop itself costs little.
const LINKS: u32 = 16;
/// Loads that a thread has in flight at a time.
const IN_FLIGHT: u32 = 4;
/// A chain that is multiplied by 1 + 1 and 1 − 1/2 by turns comes back to itself without any rounding.
const FACTORS: [f32; 2] = [1.0, -0.5];

/// What is made of a register again and again. Drivers that place registers badly reach half the peak with one and all of it with another:
/// an FMA of three registers takes twice as long on NVIDIA's where all three are in one bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// x·f + x, of two registers, in one instruction.
    Doubling,
    /// x·f + t in one instruction.
    Affine,
    /// The same as a product and a sum, which the driver may fuse.
    AffineInTwo,
}

/// A link, with one number for all components of a vector, in one register, or with one for each: an H200 made 66 TFLOP/s of f16 by the
/// former, 105 by the latter, which its driver takes for pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    link: Link,
    by_vectors: bool,
}

impl Form {
    /// Those that any GPU may be best at.
    pub const ALL: [Self; 5] = [
        Self { link: Link::Doubling, by_vectors: false },
        Self { link: Link::Doubling, by_vectors: true },
        Self { link: Link::Affine, by_vectors: false },
        Self { link: Link::Affine, by_vectors: true },
        Self::PLAIN,
    ];
    /// For drivers of CPUs, which have no registers to place, and fuse both or neither.
    pub const PLAIN: Self = Self { link: Link::AffineInTwo, by_vectors: true };

    /// The number that is `value` where the k-th vector of `a` holds zeros. No compiler knows that it does, so that nothing is folded.
    fn number(self, ty: &str, value: f32, k: u32) -> String {
        if self.by_vectors {
            format!("vec4<{ty}>({value:?} + a[{k}])")
        } else {
            format!("vec4<{ty}>({ty}({value:?} + a[{k}].x))")
        }
    }
}

impl Link {
    fn text(self, x: &str, at: u32) -> String {
        let factor = if at.is_multiple_of(2) { "f" } else { "g" };
        match self {
            Self::Doubling => format!("{x} = fma({x}, {factor}, {x});"),
            Self::Affine => format!("{x} = fma({x}, f, t);"),
            Self::AffineInTwo => format!("{x} = {x} * f + t;"),
        }
    }
}

/// Subgroups of a workgroup that multiplies cooperative matrices, and threads of a subgroup.
pub const SUBGROUPS: u32 = 4;
pub const SUBGROUP: u32 = 32;

const BINDINGS: &str = "
@group(0) @binding(0) var<storage, read_write> a: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> b: array<vec4f>;
@group(0) @binding(2) var<uniform> rounds: vec4u;
";

/// FLOPs of a thread in a round of [`arithmetic`].
pub const fn flops_of_a_round() -> u32 {
    CHAINS * LINKS * 4 * 2
}

/// Products and sums in vectors of four that touch nothing but registers.
pub fn arithmetic(ty: &str, form: Form) -> String {
    let enable = if ty == "f16" { "enable f16;\n" } else { "" };
    let mut text = format!("{enable}{BINDINGS}\n@compute @workgroup_size({THREADS})\n");
    text += "fn main(@builtin(global_invocation_id) id: vec3u) {\n";
    let [f, g] = FACTORS;
    let numbers = match form.link {
        Link::Doubling => [("f", f), ("g", g)],
        // It converges to 1, which is neither 0 nor too large for f16.
        Link::Affine | Link::AffineInTwo => [("f", 0.9375), ("t", 0.0625)],
    };
    for ((name, value), k) in numbers.into_iter().zip(0..) {
        let _ = writeln!(text, "    let {name} = {};", form.number(ty, value, k));
    }
    for chain in 0..CHAINS {
        let _ = writeln!(text, "    var x{chain} = vec4<{ty}>({ty}(id.x % 64u) * 0.015625 + {ty}({chain}.5));");
    }
    text += "    for (var i = 0u; i < rounds.x; i++) {\n";
    for at in 0..LINKS {
        for chain in 0..CHAINS {
            let _ = writeln!(text, "        {}", form.link.text(&format!("x{chain}"), at));
        }
    }
    let sum = (0..CHAINS).map(|chain| format!("x{chain}")).collect::<Vec<_>>().join(" + ");
    // Never so, which no compiler knows.
    let _ = writeln!(text, "    }}\n    let sum = {sum};\n    if sum.x == 12345.0 {{ b[id.x] = vec4f(sum); }}\n}}");
    text
}

/// The same by cooperative matrices of `size`, f16 with sums in f32. A subgroup makes 2 · `CHAINS` · size³ FLOPs a round.
pub fn cooperative(size: u32) -> String {
    let (ty, threads) = (format!("coop_mat{size}x{size}"), SUBGROUPS * SUBGROUP);
    let mut text = format!("enable f16;\nenable wgpu_cooperative_matrix;\n{BINDINGS}\n");
    let _ = writeln!(text, "var<workgroup> operand: array<f16, {}>;", size * size);
    let _ = writeln!(text, "var<workgroup> result: array<f32, {}>;\n", SUBGROUPS * size * size);
    let _ = writeln!(text, "@compute @workgroup_size({threads})");
    text += "fn main(@builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) thread: u32,\n";
    text += "    @builtin(subgroup_id) subgroup: u32) {\n";
    let _ = writeln!(text, "    for (var i = thread; i < {}u; i += {threads}u) {{", size * size);
    text += "        operand[i] = f16(a[0].x + f32(i % 7u) * 0.0625 - 0.1875);\n    }\n    workgroupBarrier();\n";
    let _ = writeln!(text, "    let x = coopLoad<{ty}<f16, A>>(&operand[0], {size}u);");
    let _ = writeln!(text, "    let y = coopLoadT<{ty}<f16, B>>(&operand[0], {size}u);");
    for chain in 0..CHAINS {
        let _ = writeln!(text, "    var sum{chain} = {ty}<f32, C>();");
    }
    text += "    for (var i = 0u; i < rounds.x; i++) {\n";
    for chain in 0..CHAINS {
        let _ = writeln!(text, "        sum{chain} = coopMultiplyAdd(x, y, sum{chain});");
    }
    // naga 30 writes what an argument of `coopStoreT` computes after the store: so they are names.
    let _ = writeln!(text, "    }}\n    var total = 0.0;\n    let at = subgroup % {SUBGROUPS}u * {}u;", size * size);
    for chain in 0..CHAINS {
        let _ = writeln!(text, "    let matrix{chain} = sum{chain};\n    coopStoreT(matrix{chain}, &result[at], {size}u);");
        let _ = writeln!(text, "    workgroupBarrier();\n    total += result[thread];\n    workgroupBarrier();");
    }
    text += "    b[id.x] = vec4f(total);\n}\n";
    text
}

/// Moves everything, grid-stride: `read`, `write` and `copy`. A thread asks for some vectors before it uses any.
pub fn memory() -> String {
    let each = |line: &dyn Fn(u32) -> String| (0..IN_FLIGHT).map(|k| format!("        {}\n", line(k))).collect::<String>();
    let loads = each(&|k| format!("let x{k} = a[i + {k}u * stride];"));
    let sums = each(&|k| format!("sum += x{k};"));
    let values = each(&|k| format!("b[i + {k}u * stride] = value;"));
    let stores = each(&|k| format!("b[i + {k}u * stride] = x{k};"));
    let turn = |body: &str, rest: &str| {
        format!(
            "    let stride = groups.x * {THREADS}u;
    var i = id.x;
    for (; i + {}u * stride < all; i += {IN_FLIGHT}u * stride) {{
{body}    }}
    for (; i < all; i += stride) {{ {rest} }}",
            IN_FLIGHT - 1
        )
    };
    let [read, write, copy] = [
        turn(&(loads.clone() + &sums), "sum += a[i];"),
        turn(&values, "b[i] = value;"),
        turn(&(loads + &stores), "b[i] = a[i];"),
    ];
    format!(
        "{BINDINGS}
@compute @workgroup_size({THREADS})
fn read(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {{
    let all = arrayLength(&a);
    var sum = vec4f();
{read}
    // Never so, which no compiler knows.
    if sum.x == 12345.0 {{ b[id.x] = sum; }}
}}

@compute @workgroup_size({THREADS})
fn write(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {{
    let all = arrayLength(&b);
    let value = vec4f(f32(id.x));
{write}
}}

@compute @workgroup_size({THREADS})
fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {{
    let all = arrayLength(&a);
{copy}
}}
"
    )
}

/// `link` makes of `rounds.y` words, a power of two, one ring in a random order; `chase` follows it, each load waiting for the one
/// before, from where the last left off: the same words again would be in a cache.
pub fn latency() -> String {
    format!(
        "
@group(0) @binding(0) var<storage, read_write> a: array<u32>;
@group(0) @binding(1) var<storage, read_write> b: array<u32>;
@group(0) @binding(2) var<uniform> rounds: vec4u;

@compute @workgroup_size({THREADS})
fn link(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {{
    // A linear congruential generator of full period.
    for (var i = id.x; i < rounds.y; i += groups.x * {THREADS}u) {{ a[i] = (i * 1664525u + 1013904223u) & (rounds.y - 1u); }}
}}

@compute @workgroup_size(1)
fn chase() {{
    var at = b[0] & (rounds.y - 1u);
    for (var i = 0u; i < rounds.x; i++) {{ at = a[at]; }}
    b[0] = at;
}}
"
    )
}

#[cfg(test)]
mod tests {
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::*;
    use crate::gpu::dtype::Dtype;

    #[test]
    fn all_are_valid() {
        let arithmetic = Form::ALL.into_iter().flat_map(|form| ["f32", "f16"].map(|ty| arithmetic(ty, form)));
        for text in arithmetic.chain([cooperative(16), cooperative(8), memory(), latency()]) {
            let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
            let valid = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
            let info = valid.unwrap_or_else(|e| panic!("{e:?}\n{text}"));
            // What naga takes it may not be able to write.
            let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
            naga::back::spv::write_vec(&module, &info, &options, None).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        }
    }

    /// For any number of rounds: each round ends where it began.
    #[test]
    fn doubling_never_drifts() {
        let starts = (0..64u8).flat_map(|id| (0..CHAINS).map(move |chain| f32::from(id) * 0.015625 + chain as f32 + 0.5));
        for (start, dtype) in starts.flat_map(|start| [(start, Dtype::F32), (start, Dtype::F16)]) {
            let mut x = dtype.round(start);
            for at in 0..LINKS as usize {
                x = dtype.round(x.mul_add(dtype.round(FACTORS[at % 2]), x));
                assert!((0.25..64.0).contains(&x), "{x}");
            }
            assert_eq!(x, start, "{dtype:?}");
        }
    }

    /// What `link` makes is one ring.
    #[test]
    fn the_ring_has_all_words() {
        let (words, mut at, mut steps) = (1u32 << 12, 0u32, 0);
        loop {
            at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & (words - 1);
            steps += 1;
            if at == 0 {
                break;
            }
        }
        assert_eq!(steps, words);
    }
}
