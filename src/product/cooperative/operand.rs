//! How threads bring the operands of products by cooperative matrices into workgroup memory.

use std::fmt::Write;

/// Numbers that a thread fetches at a time. Threads side by side take eight bytes each: an instruction then takes whole lines of memory,
/// and meets no bank of workgroup memory twice.
pub(super) const UNIT: u32 = 4;

/// One of the two operands, as the generated code names it.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub name: &'static str,
    /// The index that is not k.
    pub other: &'static str,
    pub along_k: bool,
    /// Whether it can be loaded by units, else by single numbers.
    pub quads: bool,
    /// Whether no row of a tile lies beyond the last of the matrix.
    pub whole: bool,
    /// Whether it is stored as f32.
    pub single: bool,
    /// Units that a thread fetches, and rows of the tile between two of them.
    pub count: u32,
    pub apart: u32,
    /// Elements of workgroup memory for eight numbers.
    pub eight: u32,
    pub size: u32,
    pub stride: u32,
    /// Where its tile begins, in eights.
    pub first: u32,
}

impl Operand {
    /// Whether a thread keeps one place in memory for all its units: along K an H200 is faster by one for each (benches/NOTES.md).
    fn has_one_place(&self) -> bool {
        self.whole && !self.along_k
    }

    /// Before the loop: for each unit `a_to0`, where it goes in the tile, `a_k0` and `a_o0`, its k within the tile and its other index,
    /// and `a_at0`, its place in memory counted in units.
    pub fn places(&self, tile_k: u32) -> String {
        let Self { name, other, along_k, size, stride, first, eight, apart, .. } = *self;
        let row = if along_k { tile_k / UNIT } else { size / UNIT };
        let mut wgsl = String::new();
        let w = &mut wgsl;
        let _ = writeln!(w, "    let {name}_row = thread / {row}u;\n    let {name}_in_row = thread % {row}u;");
        for i in 0..self.count {
            let to = format!("{}u + {name}_in_row * {}u", first * eight, eight * UNIT / 8);
            let _ = if along_k {
                writeln!(w, "    let {name}_to{i} = {to} + (thread + {i}u * THREADS) / {row}u * {}u;", stride * eight)
            } else {
                writeln!(w, "    let {name}_to{i} = {to} + {name}_row * {}u + {}u;", stride * eight, i * apart * stride * eight)
            };
            let row = format!("{name}_row + {}u", i * apart);
            if along_k {
                let _ = writeln!(w, "    let {name}_k{i} = {name}_in_row * {UNIT}u;");
                let _ = writeln!(w, "    let {name}_o{i} = min({other}0 + {row}, sizes.{other} - 1u);");
            } else {
                let last = if self.quads { UNIT } else { 1 };
                let _ = writeln!(w, "    let {name}_k{i} = {row};");
                let _ = writeln!(w, "    let {name}_o{i} = min({other}0 + {name}_in_row * {UNIT}u, sizes.{other} - {last}u);");
            }
            if i == 0 || !self.has_one_place() {
                let (o, k) = (format!("{name}_o{i}"), format!("k_first + {name}_k{i}"));
                let at = if along_k { format!("{o} * {name}_stride + {k}") } else { format!("({k}) * {name}_stride + {o}") };
                let _ = writeln!(w, "    var {name}_at{i} = ({name}0 + {at}) / {UNIT}u;");
            }
        }
        let step = if along_k { format!("{}u", tile_k / UNIT) } else { format!("{tile_k}u * {name}_stride / {UNIT}u") };
        let _ = writeln!(w, "    let {name}_step = {step};\n    let {name}_apart = {apart}u * {name}_stride / {UNIT}u;");
        wgsl
    }

    /// To the next tile. Where every tile is whole along K, the last is fetched again after it.
    pub fn step(&self, whole_k: bool) -> String {
        let name = self.name;
        let step = if whole_k { format!("select(0u, {name}_step, k1 < k_end)") } else { format!("{name}_step") };
        let count = if self.has_one_place() { 1 } else { self.count };
        (0..count).map(|i| format!("        {name}_at{i} += {step};\n")).collect()
    }

    /// `a_next0 = fetch`, at the k of that name.
    pub fn fetches(&self, declare: &str, k: &str, whole_k: bool) -> String {
        let Self { name, other, along_k, quads, .. } = *self;
        let line = |i| {
            let k = format!("{k} + {name}_k{i}");
            let at = if self.has_one_place() { format!("{name}_at0 + {i}u * {name}_apart") } else { format!("{name}_at{i}") };
            let value = match (quads, whole_k) {
                (true, true) => format!("whole_{name}({at})"),
                (true, false) => format!("fetch_{name}({at}, {k} < k_end)"),
                _ if along_k => format!("fetch_{name}({name}0 + {name}_o{i} * {name}_stride, {k}, k_end, true)"),
                _ => format!("fetch_{name}({name}0 + ({k}) * {name}_stride, {name}_o{i}, sizes.{other}, {k} < k_end)"),
            };
            format!("    {declare}{name}_next{i} = {value};\n")
        };
        (0..self.count).map(line).collect()
    }

    pub fn stores(&self) -> String {
        let name = self.name;
        let line = |i| {
            let unit = self.narrowed(&format!("{name}_next{i}"));
            format!("    keep({name}_to{i}, {unit});\n")
        };
        (0..self.count).map(line).collect()
    }

    /// `fetch_NAME`: a unit along the contiguous index, 0 where there is nothing; `whole_NAME` where all of it is there.
    pub fn fetch(&self) -> String {
        let wgsl = if self.quads {
            "fn whole_$x(at: u32) -> vec4h { return $x[at]; }
fn fetch_$x(at: u32, there: bool) -> vec4h {
    var unit = vec4h();
    if there { unit = $x[at]; }
    return unit;
}"
        } else {
            "fn one_$x(row: u32, i: u32, end: u32) -> f16 {
    var one = 0.0h;
    if i < end { one = $x[row + i]; }
    return one;
}
fn fetch_$x(row: u32, i: u32, end: u32, there: bool) -> vec4h {
    if !there { return vec4h(); }
    return vec4h(one_$x(row, i, end), one_$x(row, i + 1u, end), one_$x(row, i + 2u, end), one_$x(row, i + 3u, end));
}"
        };
        self.widened(&format!("\n{}\n", wgsl.replace("$x", self.name)))
    }

    /// Where the matrix begins that lies `offset` from `start` along the other index, in elements of workgroup memory.
    pub fn matrix(&self, start: &str, offset: u32, k: u32) -> String {
        let Self { first, stride, .. } = *self;
        match self.along_k {
            true => format!("(({start} + {offset}u) * {stride}u + {}u) * EIGHT", first + k / 8),
            false => format!("(({start} + {offset}u) / 8u + {}u) * EIGHT", first + k * stride),
        }
    }
}

/// Puts a unit into workgroup memory.
pub(super) fn keep(quads: bool) -> &'static str {
    if quads {
        return "
fn keep(to: u32, four: vec4h) { tiles[to] = four; }
";
    }
    "
fn keep(to: u32, four: vec4h) {
    tiles[to] = four.x;
    tiles[to + 1u] = four.y;
    tiles[to + 2u] = four.z;
    tiles[to + 3u] = four.w;
}
"
}
