//! A step's product by cooperative matrices: f16 by f16 with sums in f32, forward.
//!
//! A workgroup's gates and units are M, ordered [gate][unit] and padded to whole matrices; 16 batch rows are N. Subgroups split M
//! `across` ways and K `along` ways. A subgroup keeps its matrices of weights as values, reads those of h from `staged`, which holds
//! [row][k] as f16, and puts its sums into `sums`, [part of K][row][m], where those of all parts meet.

use std::fmt::Write;

use super::tile::{Matrices, SIZE, Tile};

/// Numbers between the rows of `staged` and of `sums` beyond what they hold, so that rows do not begin at the same bank.
const STAGED_PADDING: u32 = 8;
const SUMS_PADDING: u32 = 4;
/// Sums of one matrix that do not wait for each other.
const CHAINS: u32 = 2;

/// Matrices along M of a workgroup whose units have so many gates, padded so that all its subgroups have as many.
fn tiles_m(tile: &Tile, gates: u32) -> u32 {
    (gates * tile.units).div_ceil(SIZE).next_multiple_of(tile.unit_parts())
}

/// Those of a subgroup.
fn tiles_each(tile: &Tile, gates: u32) -> u32 {
    tiles_m(tile, gates) / tile.unit_parts()
}

/// f32 registers of a thread that hold weights: two f16 in each.
pub(super) fn weights(tile: &Tile, gates: u32) -> u32 {
    tiles_each(tile, gates) * tile.quads * SIZE * SIZE / 2 / tile.lanes
}

/// Numbers between the rows of `sums`.
fn sums_stride(tile: &Tile, gates: u32) -> u32 {
    tiles_m(tile, gates) * SIZE + SUMS_PADDING
}

/// Pairs of numbers from one row of `staged` to the next.
pub(super) fn staged_stride(tile: &Tile) -> u32 {
    (tile.k() + STAGED_PADDING) / 2
}

/// Pairs in `staged`, which also brings the weights in.
fn staged(tile: &Tile, gates: u32) -> u32 {
    let one_round = tiles_m(tile, gates) * SIZE * tile.k_parts * SIZE / 2;
    (tile.rows * staged_stride(tile)).max(one_round)
}

fn sums(tile: &Tile, gates: u32) -> u32 {
    tile.k_parts * tile.rows * sums_stride(tile, gates)
}

/// Bytes of workgroup memory.
pub(super) fn bytes(tile: &Tile, gates: u32) -> u64 {
    4 * u64::from(staged(tile, gates) + sums(tile, gates)) + 64
}

/// The text of one workgroup's product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub tile: Tile,
    pub gates: u32,
}

impl Product {
    pub fn memory(self) -> String {
        let Self { tile, gates } = self;
        format!(
            "var<workgroup> staged: array<vec2h, {}>;\nvar<workgroup> sums: array<f32, {}>;\n{}",
            staged(&tile, gates),
            sums(&tile, gates),
            self.weight_at()
        )
    }

    /// A weight of the workgroup whose first unit is `unit0`; 0 for padding.
    fn weight_at(self) -> String {
        let Self { tile: Tile { units, .. }, gates } = self;
        format!(
            "fn matrix_weight(direction: u32, unit0: u32, m: u32, k: u32) -> f32 {{
    let unit = unit0 + m % {units}u;
    if m >= {}u || unit >= sizes.hidden || k >= sizes.hidden {{ return 0.0; }}
    return load_params(sizes.weight + direction * sizes.param_stride + (m / {units}u * sizes.hidden + unit) * sizes.hidden + k);
}}
",
            gates * units
        )
    }

    /// Before the first step: where a subgroup's share begins, and its weights, which come through `staged` a few matrices of every
    /// part of K at a time, so that H and what parameters are stored as do not matter.
    pub fn weights(self, w: &mut String) {
        let Self { tile, gates } = self;
        let (m, parts) = (tiles_m(&tile, gates) * SIZE, tile.k_parts);
        let _ = writeln!(
            w,
            "let subgroup = group_of % {}u;
let m0 = subgroup % {across}u * {}u;
let k_part = subgroup / {across}u;",
            tile.groups(),
            tiles_each(&tile, gates) * SIZE,
            across = tile.unit_parts(),
        );
        if tile.matrices == Matrices::Emulated {
            return;
        }
        let at_once = (2 * staged(&tile, gates) / (m * parts * SIZE)).clamp(1, tile.quads);
        let row = parts * at_once * SIZE / 2;
        for first in (0..tile.quads).step_by(at_once as usize) {
            let _ = writeln!(
                w,
                "for (var i = thread; i < {}u; i += {}u) {{
let part_k = i % {row}u;
let k = part_k / {}u * {}u + {}u + part_k % {}u * 2u;
staged[i] = vec2h(vec2f(matrix_weight(direction, unit0, i / {row}u, k), matrix_weight(direction, unit0, i / {row}u, k + 1u)));
}}
workgroupBarrier();",
                m * row,
                tile.threads,
                at_once * SIZE / 2,
                tile.k_each(),
                first * SIZE,
                at_once * SIZE / 2,
            );
            for i in 0..tiles_each(&tile, gates) {
                for k in first..(first + at_once).min(tile.quads) {
                    let _ = writeln!(
                        w,
                        "let w{i}_{k}_at = (m0 + {}u) * {row}u + k_part * {}u + {}u;
let w{i}_{k} = coopLoadT<coop_mat16x16<f16, A>>(&staged[w{i}_{k}_at], {row}u);",
                        i * SIZE,
                        at_once * SIZE / 2,
                        (k - first) * SIZE / 2,
                    );
                }
            }
            w.push_str("workgroupBarrier();\n");
        }
    }

    /// From `staged` to `sums`.
    pub fn multiply(self, w: &mut String) {
        let Self { tile, gates } = self;
        if tile.matrices == Matrices::Emulated {
            return self.emulate(w);
        }
        let (stride, of_sums) = (staged_stride(&tile), sums_stride(&tile, gates));
        let (each, chains) = (tiles_each(&tile, gates), CHAINS.min(tile.quads));
        for i in 0..each {
            for chain in 0..chains {
                let _ = writeln!(w, "var a{i}_{chain} = coop_mat16x16<f32, C>();");
            }
        }
        let _ = writeln!(w, "let h0 = k_part * {}u;", tile.k_each() / 2);
        for k in 0..tile.quads {
            let chain = k % chains;
            let _ = writeln!(w, "{{\nlet at = h0 + {}u;", k * SIZE / 2);
            let _ = writeln!(w, "let h = coopLoad<coop_mat16x16<f16, B>>(&staged[at], {stride}u);");
            for i in 0..each {
                let _ = writeln!(w, "a{i}_{chain} = coopMultiplyAdd(w{i}_{k}, h, a{i}_{chain});");
            }
            w.push_str("}\n");
        }
        for i in 0..each {
            let sum = (0..chains).map(|chain| format!("a{i}_{chain}")).collect::<Vec<_>>().join(" + ");
            // naga 30 writes no expression that stands within coopStore: what it takes has a name before.
            let _ = writeln!(w, "let sum{i} = {sum};\nlet sum{i}_at = k_part * {}u + m0 + {}u;", tile.rows * of_sums, i * SIZE);
            let _ = writeln!(w, "coopStore(sum{i}, &sums[sum{i}_at], {of_sums}u);");
        }
    }

    fn emulate(self, w: &mut String) {
        let Self { tile, gates } = self;
        let (m, stride, of_sums) = (tiles_m(&tile, gates) * SIZE, staged_stride(&tile), sums_stride(&tile, gates));
        let of_part = tile.rows * m;
        let _ = writeln!(
            w,
            "for (var i = thread; i < {}u; i += {}u) {{
let part = i / {of_part}u;
let n = i % {of_part}u / {m}u;
var sum = 0.0;
for (var k = part * {each}u; k < (part + 1u) * {each}u; k++) {{
sum += matrix_weight(direction, unit0, i % {m}u, k) * f32(staged[n * {stride}u + k / 2u][k % 2u]);
}}
sums[(part * {}u + n) * {of_sums}u + i % {m}u] = sum;
}}",
            tile.k_parts * of_part,
            tile.threads,
            tile.rows,
            each = tile.k_each(),
        );
    }

    /// Expression of the sum over all parts of a gate, of that row and unit of the workgroup.
    pub fn sum(self, gate: u32, row: &str, unit: &str) -> String {
        let Self { tile, gates } = self;
        let of_sums = sums_stride(&tile, gates);
        let part = |part: u32| format!("sums[{row} * {of_sums}u + {unit} + {}u]", part * tile.rows * of_sums + gate * tile.units);
        (0..tile.k_parts).map(part).collect::<Vec<_>>().join(" + ")
    }
}
