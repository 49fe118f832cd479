//! How threads bring the operands of products by cooperative matrices into workgroup memory.

use std::fmt::Write;

/// What a thread fetches of an operand at a time, where it can be read so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// Eight numbers as two vec4h.
    Eights,
    /// Eight as one vec4u.
    Words,
    /// Four, so that threads read and write side by side.
    Fours,
}

impl Fetch {
    pub fn numbers(self) -> u32 {
        if self == Self::Fours { 4 } else { 8 }
    }
}

/// One of the two operands, as the generated code names it.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub name: &'static str,
    /// The index that is not k.
    pub other: &'static str,
    pub along_k: bool,
    /// Numbers that are fetched together, 8 or 4, and that a load takes: 8, 4 or 1.
    pub unit: u32,
    pub width: u32,
    /// Whether a load is one of vec4u.
    pub words: bool,
    /// Whether it is stored as f32.
    pub single: bool,
    /// Units that a thread fetches.
    pub count: u32,
    /// Elements of workgroup memory for eight numbers.
    pub eight: u32,
    pub size: u32,
    pub stride: u32,
    /// Where its tile begins, in eights.
    pub first: u32,
}

impl Operand {
    /// Before the loop, for each unit: `a_to0`, where it goes in the tile, `a_k0` and `a_o0`, its k within the tile and its other
    /// index, and `a_at0`, its place in memory counted in units.
    pub fn places(&self, tile_k: u32) -> String {
        let Self { name, other, along_k, size, stride, first, unit, eight, .. } = *self;
        let row = if along_k { tile_k / unit } else { size / unit };
        let to = eight * unit / 8;
        let mut wgsl = String::new();
        let w = &mut wgsl;
        for i in 0..self.count {
            let _ = writeln!(w, "    let {name}_i{i} = thread + {i}u * THREADS;");
            let _ = writeln!(
                w,
                "    let {name}_to{i} = {}u + {name}_i{i} / {row}u * {}u + {name}_i{i} % {row}u * {to}u;",
                first * eight,
                stride * eight
            );
            if along_k {
                let _ = writeln!(w, "    let {name}_k{i} = {name}_i{i} % {row}u * {unit}u;");
                let _ = writeln!(w, "    let {name}_o{i} = min({other}0 + {name}_i{i} / {row}u, sizes.{other} - 1u);");
                let at = format!("{name}0 + {name}_o{i} * {name}_stride + k_first + {name}_k{i}");
                let _ = writeln!(w, "    var {name}_at{i} = ({at}) / {unit}u;");
            } else {
                let _ = writeln!(w, "    let {name}_k{i} = {name}_i{i} / {row}u;");
                let last = if self.width == unit { unit } else { 1 };
                let _ =
                    writeln!(w, "    let {name}_o{i} = min({other}0 + {name}_i{i} % {row}u * {unit}u, sizes.{other} - {last}u);");
                let at = format!("{name}0 + (k_first + {name}_k{i}) * {name}_stride + {name}_o{i}");
                let _ = writeln!(w, "    var {name}_at{i} = ({at}) / {unit}u;");
            }
        }
        let step = if along_k { format!("{}u", tile_k / unit) } else { format!("{tile_k}u * {name}_stride / {unit}u") };
        let _ = writeln!(w, "    let {name}_step = {step};");
        wgsl
    }

    /// To the next tile. Where every tile is whole, the last is fetched again after it.
    pub fn step(&self, whole_k: bool) -> String {
        let name = self.name;
        let step = if whole_k { format!("select(0u, {name}_step, k1 < k_end)") } else { format!("{name}_step") };
        (0..self.count).map(|i| format!("        {name}_at{i} += {step};\n")).collect()
    }

    /// `a_next0 = fetch`, at the k of that name.
    pub fn fetches(&self, declare: &str, k: &str, whole_k: bool) -> String {
        let Self { name, other, along_k, width, unit, .. } = *self;
        let line = |i| {
            let k = format!("{k} + {name}_k{i}");
            let value = match (width == unit, whole_k) {
                (true, true) => format!("whole_{name}({name}_at{i})"),
                (true, false) => format!("fetch_{name}({name}_at{i}, {k} < k_end)"),
                _ if along_k => format!("fetch_{name}({name}0 + {name}_o{i} * {name}_stride, {k}, k_end, true)"),
                _ => format!("fetch_{name}({name}0 + ({k}) * {name}_stride, {name}_o{i}, sizes.{other}, {k} < k_end)"),
            };
            format!("    {declare}{name}_next{i} = {value};\n")
        };
        (0..self.count).map(line).collect()
    }

    pub fn stores(&self, half: &str) -> String {
        let name = self.name;
        let line = |i| format!("    keep({half} + {name}_to{i}, {});\n", self.narrowed(&format!("{name}_next{i}")));
        (0..self.count).map(line).collect()
    }

    /// `fetch_NAME`: a unit along the contiguous index, 0 where there is nothing; `whole_NAME` where all of it is there.
    pub fn fetch(&self) -> String {
        let Self { name, unit, width, words, .. } = *self;
        let ty = if unit == 8 { "Eight" } else { "vec4h" };
        let whole = match (unit, words) {
            (4, _) => "return $x[at];",
            (_, false) => "return Eight($x[2u * at], $x[2u * at + 1u]);",
            (_, true) => {
                "let words = $x[at];
    let low = vec4f(unpack2x16float(words.x), unpack2x16float(words.y));
    return Eight(vec4h(low), vec4h(vec4f(unpack2x16float(words.z), unpack2x16float(words.w))));"
            }
        };
        let wgsl = if width == unit {
            format!(
                "fn whole_$x(at: u32) -> {ty} {{
    {whole}
}}
fn fetch_$x(at: u32, there: bool) -> {ty} {{
    var unit = {ty}();
    if there {{ unit = whole_$x(at); }}
    return unit;
}}"
            )
        } else {
            let four = match width {
                4 => {
                    "fn four_$x(row: u32, i: u32, end: u32) -> vec4h {
    var four = vec4h();
    if i < end { four = $x[(row + i) / 4u]; }
    return four;
}"
                }
                _ => {
                    "fn one_$x(row: u32, i: u32, end: u32) -> f16 {
    var one = 0.0h;
    if i < end { one = $x[row + i]; }
    return one;
}
fn four_$x(row: u32, i: u32, end: u32) -> vec4h {
    return vec4h(one_$x(row, i, end), one_$x(row, i + 1u, end), one_$x(row, i + 2u, end), one_$x(row, i + 3u, end));
}"
                }
            };
            let value = if unit == 8 { "Eight(four_$x(row, i, end), four_$x(row, i + 4u, end))" } else { "four_$x(row, i, end)" };
            format!(
                "{four}
fn fetch_$x(row: u32, i: u32, end: u32, there: bool) -> {ty} {{
    if !there {{ return {ty}(); }}
    return {value};
}}"
            )
        };
        self.widened(&format!("\n{}\n", wgsl.replace("$x", name)))
    }

    /// Where the matrix begins that lies `offset` from `start` along the other index, in elements of workgroup memory.
    pub fn matrix(&self, start: &str, offset: u32, k: u32) -> String {
        let Self { first, stride, .. } = *self;
        match self.along_k {
            true => format!("half + (({start} + {offset}u) * {stride}u + {}u) * EIGHT", first + k / 8),
            false => format!("half + (({start} + {offset}u) / 8u + {}u) * EIGHT", first + k * stride),
        }
    }
}

/// Puts a unit into workgroup memory.
pub(super) fn keep(quads: bool, unit: u32) -> &'static str {
    match (quads, unit) {
        (true, 4) => {
            "
fn keep(to: u32, four: vec4h) { tiles[to] = four; }
"
        }
        (true, _) => {
            "
fn keep(to: u32, eight: Eight) {
    tiles[to] = eight.low;
    tiles[to + 1u] = eight.high;
}
"
        }
        (false, 4) => {
            "
fn keep(to: u32, four: vec4h) {
    tiles[to] = four.x;
    tiles[to + 1u] = four.y;
    tiles[to + 2u] = four.z;
    tiles[to + 3u] = four.w;
}
"
        }
        (false, _) => {
            "
fn keep_four(to: u32, four: vec4h) {
    tiles[to] = four.x;
    tiles[to + 1u] = four.y;
    tiles[to + 2u] = four.z;
    tiles[to + 3u] = four.w;
}
fn keep(to: u32, eight: Eight) {
    keep_four(to, eight.low);
    keep_four(to + 4u, eight.high);
}
"
        }
    }
}
