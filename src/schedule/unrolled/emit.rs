//! Blocks of WGSL of the unrolled kernels, straight down: what stays in registers is a `let`, or a `var` that no index reaches.
//!
//! In scope: `thread`; `direction`; `row0` and `unit0`, the first row and unit of the workgroup; `lane`, `group_of`; `staged` and
//! `sums` in workgroup memory.

use std::fmt::Write;
use std::ops::Range;

use super::share::{Share, Work};

/// A phase of a step as the text needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub index: usize,
    /// Its gates.
    pub first: u32,
    pub count: u32,
}

/// Both phases, or the one.
pub(super) fn parts(work: &Work) -> Vec<Part> {
    let [one, two] = work.gates;
    let mut parts =
        vec![Part { index: 0, first: work.first, count: one }, Part { index: 1, first: work.first + one, count: two }];
    parts.retain(|part| part.count > 0);
    parts
}

/// Numbers that a thread asks for before it stages the first of them.
const AT_ONCE: usize = 16;

/// Stages `all` numbers: number `n{i}` is asked for by the text that `ask` gives for i, and put by that of `put`, of which the
/// second part is for numbers that are there.
pub(super) fn stage(w: &mut String, share: &Share, all: u32, ask: impl Fn(u32) -> String, put: impl Fn(u32) -> [String; 2]) {
    let threads = share.threads();
    let turns: Vec<_> = (0..all.div_ceil(threads)).collect();
    for (n, turns) in turns.chunks(AT_ONCE).enumerate() {
        w.push_str("{\n");
        for (i, turn) in (0..).zip(turns) {
            let _ = writeln!(w, "let n{i} = thread + {}u;\n{}", turn * threads, ask(i));
        }
        for (i, turn) in (0..).zip(turns) {
            let guard = if (turn + 1) * threads > all { format!("if n{i} < {all}u ") } else { String::new() };
            let [before, put] = put(i);
            let _ = writeln!(w, "{before}{guard}{{ {put} }}");
        }
        let _ = writeln!(w, "}} // {n}");
    }
    w.push_str("workgroupBarrier();\n");
}

/// Where a thread is, and the functions that read weights.
pub(super) fn head(w: &mut String, share: &Share, work: &Work) {
    let read = if share.quads { "load4_params((row + at) / 4u)" } else { "" };
    // `row` begins a row of W_hh, which is walked along K forward and along the units backward.
    let by_one = "vec4f(weight(row, at, end), weight(row, at + 1u, end), weight(row, at + 2u, end), weight(row, at + 3u, end))";
    if work.backward {
        let _ = match (share.quads, share.exact) {
            (true, true) => writeln!(
                w,
                "fn weights(start: u32, k: u32, end: u32, at: u32) -> vec4f {{ let row = start + k * sizes.hidden; return {read}; }}"
            ),
            (true, false) => writeln!(
                w,
                "fn weights(start: u32, k: u32, end: u32, at: u32) -> vec4f {{ let row = start + min(k, end - 1u) * sizes.hidden; return select(vec4f(), {read}, k < end); }}"
            ),
            (false, _) => writeln!(
                w,
                "fn weight(row: u32, at: u32, end: u32) -> f32 {{ return load_params(row + min(at, end - 1u)); }}\n\
                 fn weights(start: u32, k: u32, k_end: u32, at: u32) -> vec4f {{ let row = start + min(k, k_end - 1u) * sizes.hidden; let end = sizes.hidden; return select(vec4f(), {by_one}, k < k_end); }}"
            ),
        };
    } else {
        let _ = match (share.quads, share.exact) {
            (true, true) => writeln!(w, "fn weights(row: u32, at: u32) -> vec4f {{ return {read}; }}"),
            (true, false) => writeln!(
                w,
                "fn weights(row: u32, k: u32) -> vec4f {{ let at = min(k, sizes.hidden - 4u); return select(vec4f(), {read}, k < sizes.hidden); }}"
            ),
            (false, _) => writeln!(
                w,
                "fn weight(row: u32, at: u32, end: u32) -> f32 {{ return select(0.0, load_params(row + min(at, end - 1u)), at < end); }}\n\
                 fn weights(row: u32, at: u32) -> vec4f {{ let end = sizes.hidden; return {by_one}; }}"
            ),
        };
    }
}

/// The start of the entry function: where the thread's units and its part of K are.
pub(super) fn place(w: &mut String, share: &Share, work: &Work) {
    let Share { lanes, across, each, .. } = *share;
    let _ = writeln!(w, "let lane = thread % {lanes}u;\nlet group_of = thread / {lanes}u;");
    let _ = writeln!(w, "let weight = sizes.weight + direction * sizes.param_stride;");
    let _ = writeln!(w, "let group_unit = unit0 + group_of % {across}u * {each}u;");
    for part in parts(work) {
        let length = share.blocks[part.index] * lanes;
        let _ = writeln!(w, "let part{} = group_of / {across}u * {length}u + lane;", part.index);
    }
    if work.backward {
        for part in parts(work) {
            let _ = writeln!(w, "let start{} = weight + {}u * sizes.hidden * sizes.hidden;", part.index, part.first);
            let _ = writeln!(w, "let end{} = {}u * sizes.hidden;", part.index, part.count);
        }
        // Rows are a multiple of four long, or read one by one.
        let last = if share.quads { "sizes.hidden - 4u" } else { "sizes.hidden - 1u" };
        for quad in 0..each / 4 {
            let _ = writeln!(w, "let at{quad} = min(group_unit + {}u, {last});", 4 * quad);
        }
    } else {
        let _ = writeln!(w, "let gate_size = sizes.hidden * sizes.hidden;");
        for unit in 0..each {
            let _ = writeln!(w, "let at{unit} = weight + min(group_unit + {unit}u, sizes.hidden - 1u) * sizes.hidden;");
        }
    }
}

/// A quad of a thread's weights.
#[derive(Debug, Clone, Copy)]
struct Quad {
    part: Part,
    /// By number; in a loop from the turn's first on.
    block: u32,
    /// Forward a unit and its gate, backward four units.
    column: u32,
    gate: u32,
}

impl Quad {
    fn name(self) -> String {
        let Self { part, block, column, gate } = self;
        if part.index == 0 { format!("w{column}_{gate}_{block}") } else { format!("v{column}_{gate}_{block}") }
    }

    /// `turn` is what a loop adds to where its block begins.
    fn load(self, share: &Share, work: &Work, turn: &str) -> String {
        let Self { part, block, column, gate } = self;
        let p = part.index;
        let k = block * share.lanes;
        if work.backward {
            format!("let {} = weights(start{p}, part{p} + {k}u{turn}, end{p}, at{column});\n", self.name())
        } else {
            format!("let {} = weights(at{column} + {gate}u * gate_size, (part{p} + {k}u{turn}) * 4u);\n", self.name())
        }
    }
}

/// The quads of some blocks of a phase, in the order in which they are used.
fn quads(share: &Share, work: &Work, part: Part, blocks: Range<u32>) -> Vec<Quad> {
    let mut quads = Vec::new();
    for block in blocks {
        if work.backward {
            quads.extend((0..share.each / 4).map(|column| Quad { part, block, column, gate: 0 }));
        } else {
            let gates = part.first..part.first + part.count;
            let unit = |column| gates.clone().map(move |gate| Quad { part, block, column, gate });
            quads.extend((0..share.each).flat_map(unit));
        }
    }
    quads
}

/// All quads of a thread: the first `share.held` of them stay.
fn all_quads(share: &Share, work: &Work) -> Vec<Quad> {
    parts(work).into_iter().flat_map(|part| quads(share, work, part, 0..share.blocks[part.index])).collect()
}

/// Loads the weights that stay.
pub(super) fn hold(w: &mut String, share: &Share, work: &Work) {
    for quad in all_quads(share, work).into_iter().take(share.held as usize) {
        w.push_str(&quad.load(share, work, ""));
    }
}

/// The products of a phase over the thread's part of K: for each unit and row of its group the names of its sums. `from` is an
/// expression of where in `staged` the operand begins, `stride` the distance of its rows, both in vec4f forward.
pub(super) fn products(w: &mut String, share: &Share, work: &Work, part: Part, [from, stride]: [&str; 2]) -> Vec<Vec<String>> {
    let Share { rows, each, lanes, .. } = *share;
    let p = part.index;
    let sum = |column: u32, row: u32, gate: u32| format!("s{p}_{column}_{row}_{gate}");
    let columns = if work.backward { each / 4 } else { each };
    let gates = if work.backward { 0..1 } else { part.first..part.first + part.count };
    for (column, row) in (0..columns).flat_map(|column| (0..rows).map(move |row| (column, row))) {
        for gate in gates.clone() {
            let zero = if work.backward { "vec4f()" } else { "0.0" };
            let _ = writeln!(w, "var {} = {zero};", sum(column, row, gate));
        }
    }
    let block = |w: &mut String, block: u32, held: usize, turn: &str| {
        w.push_str("{\n");
        let quads = quads(share, work, part, block..block + 1);
        for quad in quads.iter().skip(held) {
            w.push_str(&quad.load(share, work, turn));
        }
        for row in 0..rows {
            let _ = writeln!(w, "let x{row} = staged[{from} + {row}u * {stride} + part{p} + {}u{turn}];", block * lanes);
        }
        for quad in quads {
            let name = quad.name();
            for row in 0..rows {
                let a = sum(quad.column, row, quad.gate);
                if work.backward {
                    let _ = writeln!(w, "{a} = fma({name}, vec4f(x{row}), {a});");
                } else {
                    let fma = |axis| format!("{a} = fma({name}.{axis}, x{row}.{axis}, {a});");
                    let _ = writeln!(w, "{}", ['x', 'y', 'z', 'w'].map(fma).join(" "));
                }
            }
        }
        w.push_str("}\n");
    };
    let (of_turn, held_blocks) = (share.blocks_of_turn(work, p), share.held_blocks(work, p));
    let straight = if of_turn > 0 { held_blocks } else { share.blocks[p] };
    for n in 0..straight {
        block(w, n, share.held_of_block(work, p, n) as usize, "");
    }
    if of_turn > 0 {
        // The bound is the device's to read, so that no compiler writes the loop out.
        let (first, step, width) = (held_blocks * lanes, of_turn * lanes, work.wide() * share.along);
        let length = if work.backward { format!("end{p}") } else { "sizes.hidden".into() };
        let _ = writeln!(w, "for (var turn = {first}u; turn * {width}u < {length}; turn += {step}u) {{");
        for n in 0..of_turn {
            block(w, n, 0, " + turn");
        }
        w.push_str("}\n");
    }
    let pairs = (0..each).flat_map(|unit| (0..rows).map(move |row| (unit, row)));
    pairs
        .map(|(unit, row)| {
            if work.backward {
                vec![format!("{}.{}", sum(unit / 4, row, 0), ["x", "y", "z", "w"][unit as usize % 4])]
            } else {
                gates.clone().map(|gate| sum(unit, row, gate)).collect()
            }
        })
        .collect()
}

/// Sums over the lanes of a group by shuffles, which halve the units and rows of a lane as long as it has several: lane
/// `l` ends with pair `l / same` if there are fewer of them than lanes, else with `each` of them from `l · each` on.
pub(super) fn over_lanes(w: &mut String, p: usize, lanes: u32, mut pairs: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for (level, mask) in (0..lanes.ilog2()).rev().map(|bit| 1 << bit).enumerate() {
        if pairs.len() == 1 {
            for (i, name) in pairs[0].iter_mut().enumerate() {
                let sum = format!("b{p}_{level}_0_{i}");
                let _ = writeln!(w, "let {sum} = {name} + subgroupShuffleXor({name}, {mask}u);");
                *name = sum;
            }
            continue;
        }
        let _ = writeln!(w, "let up{p}_{level} = (lane & {mask}u) != 0u;");
        let (low, high) = pairs.split_at(pairs.len() / 2);
        let mut next = Vec::new();
        for (pair, (low, high)) in low.iter().zip(high).enumerate() {
            let sum = |(i, (a, b)): (usize, (&String, &String))| {
                let (sum, up) = (format!("b{p}_{level}_{pair}_{i}"), format!("up{p}_{level}"));
                let _ = writeln!(w, "let {sum} = select({a}, {b}, {up}) + subgroupShuffleXor(select({b}, {a}, {up}), {mask}u);");
                sum
            };
            next.push(low.iter().zip(high).enumerate().map(sum).collect());
        }
        pairs = next;
    }
    pairs
}

/// Brings the sums to the threads that finish: a barrier, where they meet in workgroup memory. Gives for each slot the names of
/// its sums.
pub(super) fn gather(w: &mut String, share: &Share, work: &Work, part: Part, pairs: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let Share { lanes, across, each, rows, .. } = *share;
    let (p, values) = (part.index, work.values(part.index));
    let pairs = if share.shuffles { over_lanes(w, p, lanes, pairs) } else { pairs };
    if !share.has_parts() {
        return pairs;
    }
    let (units, outputs) = (share.units(), share.units() * rows);
    let along = format!("group_of / {across}u");
    let part_of = if share.shuffles { along } else { format!("({along} * {lanes}u + lane)") };
    let _ = writeln!(w, "{{\nlet sums_of = {part_of} * {}u + group_of % {across}u * {each}u;", values * outputs);
    let same = lanes * pairs.len() as u32 / (each * rows);
    let first = if share.shuffles && same > 1 { format!("if lane % {same}u == 0u ") } else { String::new() };
    for (i, names) in pairs.iter().enumerate() {
        let pair = match (share.shuffles, pairs.len()) {
            (false, _) => format!("{i}u"),
            (true, 1) => format!("(lane / {same}u)"),
            (true, n) => format!("(lane * {n}u + {i}u)"),
        };
        for (value, name) in names.iter().enumerate() {
            let at = format!("{}u + {pair} % {rows}u * {units}u + {pair} / {rows}u", value as u32 * outputs);
            let _ = writeln!(w, "{first}{{ sums[sums_of + {at}] = {name}; }}");
        }
    }
    w.push_str("}\nworkgroupBarrier();\n");
    let mut slots = Vec::new();
    for slot in 0..share.slots() {
        let mut names = Vec::new();
        for value in 0..values {
            let at = |part: u32| format!("sums[{}u + output{slot}]", (part * values + value) * outputs);
            let _ = writeln!(w, "let z{p}_{slot}_{value} = {};", (0..share.parts()).map(at).collect::<Vec<_>>().join(" + "));
            names.push(format!("z{p}_{slot}_{value}"));
        }
        slots.push(names);
    }
    slots
}

/// What a thread finishes: for slot `i` `u{i}` and `b{i}`, always within H and B; `r{i}`, the row within the workgroup; `mine{i}`,
/// whether it is there and this thread's.
pub(super) fn slots(w: &mut String, share: &Share) {
    let Share { lanes, rows, each, .. } = *share;
    for slot in 0..share.slots() {
        let mut mine = String::new();
        if share.has_parts() {
            let (units, outputs, at) = (share.units(), share.units() * rows, slot * share.threads());
            let _ = writeln!(w, "let output{slot} = min(thread + {at}u, {}u);", outputs - 1);
            let _ = writeln!(w, "let r{slot} = output{slot} / {units}u;\nlet of_unit{slot} = unit0 + output{slot} % {units}u;");
            if at + share.threads() > outputs {
                mine = format!("(thread < {}u) & ", outputs - at);
            }
        } else {
            let same = (lanes / (each * rows)).max(1);
            let pair = if same > 1 { format!("lane / {same}u") } else { format!("lane * {}u + {slot}u", share.slots()) };
            let _ = writeln!(w, "let pair{slot} = {pair};\nlet r{slot} = pair{slot} % {rows}u;");
            let _ = writeln!(w, "let of_unit{slot} = group_unit + pair{slot} / {rows}u;");
            if same > 1 {
                mine = format!("(lane % {same}u == 0u) & ");
            }
        }
        let _ = writeln!(w, "let of_row{slot} = row0 + r{slot};");
        let _ = writeln!(w, "let mine{slot} = {mine}(of_unit{slot} < sizes.hidden) & (of_row{slot} < sizes.batch);");
        let _ = writeln!(
            w,
            "let u{slot} = min(of_unit{slot}, sizes.hidden - 1u);\nlet b{slot} = min(of_row{slot}, sizes.batch - 1u);"
        );
    }
}

/// `Gates` with the sums of a phase, and 0 or what `others` gives for the rest.
pub(super) fn gates(work: &Work, part: Part, names: &[String], others: impl Fn(u32) -> String) -> String {
    let gate = |gate: u32| match gate.checked_sub(part.first) {
        Some(i) if i < part.count => names[i as usize].clone(),
        _ => others(gate),
    };
    format!("Gates({})", (0..work.all_gates).map(gate).collect::<Vec<_>>().join(", "))
}
