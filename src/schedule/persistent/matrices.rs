//! A step's product by cooperative matrices: f16 by f16 with sums in f32.
//!
//! Forward a workgroup's gates and units are M, ordered [gate][unit], and H is K. Backward its units are M, and K are all units' gates,
//! ordered [pair of gates][unit][gate of the pair], so that one thread makes a whole word of the exchange; an odd last gate has a
//! partner that is 0. M and K are padded to whole matrices. Subgroups split M `across` ways and K `along` ways. A subgroup keeps its
//! matrices of weights as values, reads those of the operand from `staged`, and puts its sums into `sums`, [part of K][n][m], where
//! those of all parts meet.
//!
//! N is 16: that many batch rows, or of fewer, each 16th-fold: then K is cut into as many shares, `staged` holds [share][row][k of the
//! share] as f16, a part of K multiplies all 16, and only the sums of its own share are read. So memory and staging take the rows that
//! there are, and more teams can share the batch.

use std::fmt::Write;

use super::tile::{Matrices, SIZE, Tile};

/// Numbers between the rows of `staged` and of `sums` beyond what they hold, so that rows do not begin at the same bank.
const STAGED_PADDING: u32 = 8;
const SUMS_PADDING: u32 = 4;
/// Sums of one matrix that do not wait for each other: more where a subgroup has no second matrix beside it.
const CHAINS: u32 = 2;
const CHAINS_BACKWARD: u32 = 4;

/// Matrices along M of a workgroup whose units have so many gates, padded so that all its subgroups have as many.
fn tiles_m(tile: &Tile, gates: u32) -> u32 {
    (gates * tile.units).div_ceil(SIZE).next_multiple_of(tile.unit_parts().max(1))
}

/// Those of a subgroup.
fn tiles_each(tile: &Tile, gates: u32) -> u32 {
    tiles_m(tile, gates) / tile.unit_parts().max(1)
}

/// f32 registers of a thread that hold weights: two f16 in each.
pub(super) fn weights(tile: &Tile, gates: u32) -> u32 {
    tiles_each(tile, gates) * tile.quads * SIZE * SIZE / 2 / tile.lanes
}

/// Numbers between the rows of `sums`.
fn sums_stride(tile: &Tile, gates: u32) -> u32 {
    tiles_m(tile, gates) * SIZE + SUMS_PADDING
}

/// Shares of K that lie below each other in `staged`.
fn shares(tile: &Tile) -> u32 {
    (SIZE / tile.rows.max(1)).max(1)
}

/// Length of one of them.
fn k_of_share(tile: &Tile) -> u32 {
    tile.k() / shares(tile)
}

/// Pairs of numbers from one row of `staged` to the next.
fn staged_stride(tile: &Tile) -> u32 {
    (k_of_share(tile) + STAGED_PADDING) / 2
}

/// Expression of where in `staged` the pair of numbers from `k` on lies, of that batch row of the turn.
pub(super) fn staged_at(tile: &Tile, row: &str, k: &str) -> String {
    let stride = staged_stride(tile);
    match shares(tile) {
        1 => format!("{row} * {stride}u + {k} / 2u"),
        _ => {
            let of_share = k_of_share(tile);
            format!("({k} / {of_share}u * {}u + {row}) * {stride}u + {k} % {of_share}u / 2u", tile.rows)
        }
    }
}

/// Pairs in `staged`, which also brings the weights in.
fn staged(tile: &Tile, gates: u32) -> u32 {
    let one_round = tiles_m(tile, gates) * SIZE * tile.k_parts * SIZE / 2;
    (SIZE * staged_stride(tile)).max(one_round)
}

fn sums(tile: &Tile, gates: u32) -> u32 {
    tile.k_parts * SIZE * sums_stride(tile, gates)
}

/// Bytes of workgroup memory.
pub(super) fn bytes(tile: &Tile, gates: u32) -> u64 {
    4 * u64::from(staged(tile, gates) + sums(tile, gates)) + 64
}

/// The text of one workgroup's product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub tile: Tile,
    /// Gates of a unit along M: 1 backward, where they lie along K.
    pub gates: u32,
    pub backward: bool,
}

impl Product {
    pub fn memory(self) -> String {
        let Self { tile, gates, .. } = self;
        format!(
            "var<workgroup> staged: array<vec2h, {}>;\nvar<workgroup> sums: array<f32, {}>;\n{}",
            staged(&tile, gates),
            sums(&tile, gates),
            self.weight_at()
        )
    }

    /// A weight of the workgroup whose first unit is `unit0`; 0 for padding.
    fn weight_at(self) -> String {
        let Self { tile: Tile { units, .. }, gates, backward } = self;
        if backward {
            return format!(
                "fn matrix_weight(direction: u32, unit0: u32, m: u32, k: u32) -> f32 {{
    let gate = k / 2u / sizes.hidden * 2u + k % 2u;
    if m >= {units}u || unit0 + m >= sizes.hidden || gate >= GATES {{ return 0.0; }}
    let row = gate * sizes.hidden + k / 2u % sizes.hidden;
    return load_params(sizes.weight + direction * sizes.param_stride + row * sizes.hidden + unit0 + m);
}}
"
            );
        }
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
        let Self { tile, gates, backward } = self;
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
            // Neighbouring threads load neighbouring weights: a gate's along K, or backward a unit's along M.
            let (m_of_i, k_of_i) = match backward {
                false => (format!("i / {row}u"), format!("i % {row}u")),
                true => (format!("i % {m}u"), format!("i / {m}u")),
            };
            let _ = writeln!(
                w,
                "for (var i = thread; i < {}u; i += {}u) {{
let m = {m_of_i};
let part_k = {k_of_i};
let k = part_k / {}u * {}u + {}u + part_k % {}u * 2u;
staged[m * {row}u + part_k] = vec2h(vec2f(matrix_weight(direction, unit0, m, k), matrix_weight(direction, unit0, m, k + 1u)));
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
        let Self { tile, gates, backward } = self;
        if tile.matrices == Matrices::Emulated {
            return self.emulate(w);
        }
        let (stride, of_sums) = (staged_stride(&tile), sums_stride(&tile, gates));
        let each = tiles_each(&tile, gates);
        let chains = if backward && each == 1 { CHAINS_BACKWARD } else { CHAINS }.min(tile.quads);
        for i in 0..each {
            for chain in 0..chains {
                let _ = writeln!(w, "var a{i}_{chain} = coop_mat16x16<f32, C>();");
            }
        }
        let part_of_share = match shares(&tile) {
            1 => "k_part".into(),
            shares => format!("(k_part % {}u)", tile.k_parts / shares),
        };
        let _ = writeln!(w, "let h0 = {part_of_share} * {}u;", tile.k_each() / 2);
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
            let _ = writeln!(w, "let sum{i} = {sum};\nlet sum{i}_at = k_part * {}u + m0 + {}u;", SIZE * of_sums, i * SIZE);
            let _ = writeln!(w, "coopStore(sum{i}, &sums[sum{i}_at], {of_sums}u);");
        }
    }

    fn emulate(self, w: &mut String) {
        let Self { tile, gates, .. } = self;
        let (m, of_sums) = (tiles_m(&tile, gates) * SIZE, sums_stride(&tile, gates));
        let of_part = tile.rows * m;
        let _ = writeln!(
            w,
            "for (var i = thread; i < {}u; i += {}u) {{
let part = i / {of_part}u;
let n = i % {of_part}u / {m}u;
var sum = 0.0;
for (var k = part * {each}u; k < (part + 1u) * {each}u; k++) {{
sum += matrix_weight(direction, unit0, i % {m}u, k) * f32(staged[{}][k % 2u]);
}}
sums[(part * {SIZE}u + part / {}u * {}u + n) * {of_sums}u + i % {m}u] = sum;
}}",
            tile.k_parts * of_part,
            tile.threads,
            staged_at(&tile, "n", "k"),
            tile.k_parts / shares(&tile),
            tile.rows,
            each = tile.k_each(),
        );
    }

    /// Expression of the sum over all parts of a gate, of that row and unit of the workgroup.
    pub fn sum(self, gate: u32, row: &str, unit: &str) -> String {
        let Self { tile, gates, .. } = self;
        let (of_sums, of_share) = (sums_stride(&tile, gates), tile.k_parts / shares(&tile));
        let part = |part: u32| {
            let n = part * SIZE + part / of_share * tile.rows;
            format!("sums[{row} * {of_sums}u + {unit} + {}u]", n * of_sums + gate * tile.units)
        };
        (0..tile.k_parts).map(part).collect::<Vec<_>>().join(" + ")
    }
}
