//! The WGSL of products by cooperative matrices: `product/cooperative.wgsl` and the lines that name each matrix.

use std::fmt::Write;

use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::product::tiled::{fetch, width};
use crate::product::{MatmulSizes, ProductLayout};

/// Rows and columns of C that a workgroup makes.
pub(super) const TILE: u32 = 64;
/// The k that it takes at a time.
pub(super) const TILE_K: u32 = 32;

/// `size` is that of the matrices, 8 or 16.
pub(super) fn source(size: u32, layout: ProductLayout) -> KernelSource {
    let ProductLayout { along_k: [a_along_k, b_along_k], quads: [a_quads, b_quads, _], .. } = layout;
    let constants = [
        ("SIZE", size),
        ("A_ALONG_K", a_along_k.into()),
        ("B_ALONG_K", b_along_k.into()),
        ("A_WIDTH", width(a_quads)),
        ("B_WIDTH", width(b_quads)),
    ];
    let bindings = layout.bindings([a_quads, b_quads, false]);
    let source = KernelSource::new("product/cooperative", &constants, &bindings, StepIndex::None, MatmulSizes::WGSL);
    let source = source.with_text(&fetch("a", a_quads)).with_text(&fetch("b", b_quads));
    with_matrices(source, size).enabling("wgpu_cooperative_matrix")
}

/// The kernel with its marked lines written out: matrices have no names that a loop could count.
fn with_matrices(source: KernelSource, size: u32) -> KernelSource {
    let (parts, ty) = (TILE / 2 / size, format!("coop_mat{size}x{size}"));
    let [mut declare, mut multiply, mut write] = [const { String::new() }; 3];
    for part in 0..parts {
        // In memory both go along their other index first: A is column-major, and B row-major.
        let _ = writeln!(multiply, "            let a{part} = coopLoad<{ty}<f16, A>>(&a_tile[ai + {part}u * SIZE], STRIDE);");
        let _ = writeln!(multiply, "            let b{part} = coopLoadT<{ty}<f16, B>>(&b_tile[bi + {part}u * SIZE], STRIDE);");
    }
    for row in 0..parts {
        for column in 0..parts {
            let sum = format!("sum{row}{column}");
            let _ = writeln!(declare, "    var {sum} = {ty}<f32, C>();");
            let _ = writeln!(multiply, "            {sum} = coopMultiplyAdd(a{row}, b{column}, {sum});");
            let _ = writeln!(write, "    coopStoreT({sum}, &c_part[subgroup * ELEMENTS], SIZE);");
            let _ = writeln!(write, "    workgroupBarrier();");
            let _ = writeln!(write, "    put(thread, c0, bias0, m0, n0, {row}u * SIZE, {column}u * SIZE);");
            let _ = writeln!(write, "    workgroupBarrier();");
        }
    }
    let marked = [
        ("    // for every matrix: var sum = coop_mat<f32, C>();\n", declare),
        ("            // for every matrix: sum = coopMultiplyAdd(a, b, sum);\n", multiply),
        ("    // for every matrix: coopStoreT(sum, c_part); put\n", write),
    ];
    marked.into_iter().fold(source, |source, (mark, lines)| source.with_lines(mark, &lines))
}
