//! The WGSL that peaks are measured with.

use std::fmt::Write as _;

/// Threads of a workgroup.
pub const THREADS: u32 = 256;
/// Independent chains of a thread: as many as hide the latency of an FMA on any GPU.
pub const CHAINS: u32 = 8;
/// Links of each chain in one round of the loop.
const LINKS: u32 = 4;
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

/// Products and sums in vectors of four that touch nothing but registers, as one instruction or as two that the driver may fuse.
pub fn arithmetic(ty: &str, fused: bool) -> String {
    let enable = if ty == "f16" { "enable f16;\n" } else { "" };
    let mut text = format!("{enable}{BINDINGS}\n@compute @workgroup_size({THREADS})\n");
    text += "fn main(@builtin(global_invocation_id) id: vec3u) {\n";
    // Unknown until it runs, so that nothing folds it. It converges to a number that is neither 0 nor too large for f16.
    let _ = writeln!(text, "    let factor = vec4<{ty}>(0.5 * a[0] + 0.9375);\n    let term = vec4<{ty}>(a[1] + 0.0625);");
    for chain in 0..CHAINS {
        let _ = writeln!(text, "    var x{chain} = vec4<{ty}>({ty}(id.x % 64u) * 0.015625 + {ty}({chain}.0));");
    }
    text += "    for (var i = 0u; i < rounds.x; i++) {\n";
    for _ in 0..LINKS {
        for chain in 0..CHAINS {
            let x = format!("x{chain}");
            let link = if fused { format!("fma({x}, factor, term)") } else { format!("{x} * factor + term") };
            let _ = writeln!(text, "        {x} = {link};");
        }
    }
    let sum = (0..CHAINS).map(|chain| format!("x{chain}")).collect::<Vec<_>>().join(" + ");
    let _ = writeln!(text, "    }}\n    b[id.x] = vec4f({sum});\n}}");
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

/// Moves everything, grid-stride: `read`, `write` and `copy`.
pub fn memory() -> String {
    format!(
        "{BINDINGS}
@compute @workgroup_size({THREADS})
fn read(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {{
    let all = arrayLength(&a);
    var sum = vec4f();
    for (var i = id.x; i < all; i += groups.x * {THREADS}u) {{ sum += a[i]; }}
    // Never so, which no compiler knows.
    if sum.x == 12345.0 {{ b[id.x] = sum; }}
}}

@compute @workgroup_size({THREADS})
fn write(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {{
    let all = arrayLength(&b);
    let value = vec4f(f32(id.x));
    for (var i = id.x; i < all; i += groups.x * {THREADS}u) {{ b[i] = value; }}
}}

@compute @workgroup_size({THREADS})
fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {{
    let all = arrayLength(&a);
    for (var i = id.x; i < all; i += groups.x * {THREADS}u) {{ b[i] = a[i]; }}
}}
"
    )
}

/// `link` makes of `rounds.y` words, a power of two, one ring in a random order; `chase` follows it, each load waiting for the one
/// before.
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
    var at = 0u;
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

    #[test]
    fn all_are_valid() {
        let texts = [arithmetic("f32", true), arithmetic("f32", false), arithmetic("f16", true), cooperative(16), cooperative(8)];
        for text in texts.into_iter().chain([memory(), latency()]) {
            let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
            let valid = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
            let info = valid.unwrap_or_else(|e| panic!("{e:?}\n{text}"));
            // What naga takes it may not be able to write.
            let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
            naga::back::spv::write_vec(&module, &info, &options, None).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
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
