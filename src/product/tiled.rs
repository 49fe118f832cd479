//! The WGSL of products on GPUs: `product/tiled.wgsl` and the code that depends on a tile and on how the operands lie.

use std::fmt::Write;

use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::gpu::shaders;
use crate::product::{MatmulSizes, ProductLayout, Tile};

/// The k that a workgroup takes at a time.
pub(super) const TILE_K: u32 = 16;

pub(super) fn source(tile: Tile, layout: ProductLayout) -> KernelSource {
    let ([tile_m, tile_n], [block_m, block_n]) = (tile.size(), tile.block());
    let ProductLayout { along_k: [a_along_k, b_along_k], quads: [a_quads, b_quads, c_quads], .. } = layout;
    let constants = [
        ("TILE_M", tile_m),
        ("TILE_N", tile_n),
        ("TILE_K", TILE_K),
        ("BLOCK_M", block_m),
        ("BLOCK_N", block_n),
        ("A_ALONG_K", a_along_k.into()),
        ("B_ALONG_K", b_along_k.into()),
        ("A_WIDTH", width(a_quads)),
        ("B_WIDTH", width(b_quads)),
    ];
    let generated = [fetch("a", a_quads), fetch("b", b_quads), sums(tile), put(c_quads).into()].concat();
    KernelSource::new("product/tiled", &constants, &layout.bindings(layout.quads), StepIndex::None, MatmulSizes::WGSL)
        .with_text(&generated)
}

/// Numbers that a load takes.
pub(super) fn width(quads: bool) -> u32 {
    if quads { 4 } else { 1 }
}

/// `fetch_NAME` and `quad_NAME` of an operand.
pub(super) fn fetch(name: &str, quads: bool) -> String {
    let load = if quads {
        "return load4_$x(at / 4u);"
    } else {
        "let i = at + min(FOUR, vec4u(rest)); return vec4f(load_$x(i.x), load_$x(i.y), load_$x(i.z), load_$x(i.w));"
    };
    let template = format!("\nfn quad_$x(at: u32, rest: u32) -> vec4f {{ {load} }}\n{}", shaders::text("product/tiled_fetch"));
    template.replace("$x", name).replace("$X", &name.to_uppercase())
}

/// The sums of a thread, quads of n for each row, and what adds to them and writes them. A thread's rows come in groups of four, its
/// columns too; groups lie apart by the threads beside it, so that threads side by side read quads side by side.
fn sums(tile: Tile) -> String {
    let [rows, quads] = tile.block().map(|size| size as usize);
    let quads = quads / 4;
    let sum = |row: usize, quad: usize| format!("(*sums)[{}]", row * quads + quad);
    let mut wgsl = format!("\nalias Sums = array<vec4f, {}>;\n", rows * quads);
    wgsl += "\n// The products of one k: `ai` and `bi` are where its first quads lie.\n";
    wgsl += "fn multiply(sums: ptr<function, Sums>, ai: u32, bi: u32) {\n";
    for group in 0..rows / 4 {
        let _ = writeln!(wgsl, "    let a{group} = tiles[ai + {group}u * THREADS_M];");
    }
    for quad in 0..quads {
        let _ = writeln!(wgsl, "    let b{quad} = tiles[bi + {quad}u * THREADS_N];");
    }
    for row in 0..rows {
        for quad in 0..quads {
            let (group, component) = (row / 4, ["x", "y", "z", "w"][row % 4]);
            let _ = writeln!(wgsl, "    {} += a{group}.{component} * b{quad};", sum(row, quad));
        }
    }
    wgsl += "}\n\nfn write(sums: ptr<function, Sums>, c_at: u32, bias_at: u32, m: u32, n: u32) {\n";
    for quad in 0..quads {
        let _ = writeln!(wgsl, "    let n{quad} = n + {quad}u * THREADS_N * 4u;");
        let _ = writeln!(wgsl, "    let bias{quad} = bias_quad(bias_at, n{quad});");
    }
    for row in 0..rows {
        let (group, step) = (row / 4, row % 4);
        for quad in 0..quads {
            let m = format!("m + {group}u * THREADS_M * 4u + {step}u");
            let _ = writeln!(wgsl, "    put(c_at, {m}, n{quad}, {} + bias{quad});", sum(row, quad));
        }
    }
    wgsl + "}\n"
}

/// Writes four numbers of C, as far as they are there.
fn put(quads: bool) -> &'static str {
    if quads {
        return "
fn put(c_at: u32, m: u32, n: u32, sum: vec4f) {
    if m >= sizes.m || n >= sizes.n { return; }
    let at = (c_at + m * sizes.c_row + n) / 4u;
    if sizes.accumulate == 1u { store4_c(at, sum + load4_c(at)); } else { store4_c(at, sum); }
}
";
    }
    "
fn put(c_at: u32, m: u32, n: u32, sum: vec4f) {
    if m >= sizes.m { return; }
    let at = c_at + m * sizes.c_row + n;
    for (var i = 0u; i < 4u; i++) {
        if n + i < sizes.n {
            if sizes.accumulate == 1u { store_c(at + i, sum[i] + load_c(at + i)); } else { store_c(at + i, sum[i]); }
        }
    }
}
"
}
