//! The WGSL of products by cooperative matrices: `product/cooperative.wgsl` and the lines that name each matrix.

use std::fmt::Write;

use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::shaders::shader;
use crate::product::layout::{MatmulSizes, ProductLayout};

/// How the subgroups of a workgroup make a tile of C by cooperative matrices: see `product/cooperative.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matrices {
    /// Rows and columns of a matrix: 8 or 16.
    pub size: u32,
    /// Rows and columns of C that a workgroup makes.
    pub tile: [u32; 2],
    /// Rows and columns that a subgroup makes.
    pub part: [u32; 2],
    /// The k that a workgroup takes at a time.
    pub tile_k: u32,
    /// Pairs of tiles that workgroup memory holds: 1 or 2.
    pub buffers: u32,
    /// Whether that memory is of `vec4h`, else of `f16`, which Metal's matrices want. naga 30 takes a matrix's type from what it is
    /// loaded from: from `vec4u` it would be one of u32.
    pub quads: bool,
}

impl Matrices {
    /// For a product of m x n: the largest tile that gives a large GPU enough to do and fits `bytes` of workgroup memory.
    pub fn by_shape(size: u32, [m, n]: [u64; 2], parts: u64, bytes: u32) -> Self {
        let of = |tile, part, tile_k, buffers| Self { size, tile, part, tile_k, buffers, quads: size == 16 };
        let least = of([64, 64], [32, 32], 32, 1);
        let fits = |it: &Self| {
            let [rows, columns] = it.tile.map(u64::from);
            it.bytes() <= bytes && m.div_ceil(rows) * n.div_ceil(columns) * parts >= FILLING
        };
        let [large, smaller] = [64, 32].map(|tile_k| of([128, 128], [64, 32], tile_k, 1));
        [large, smaller].into_iter().find(fits).unwrap_or(least)
    }

    fn parts(&self) -> [u32; 2] {
        [0, 1].map(|i| self.tile[i] / self.part[i])
    }

    fn subgroups(&self) -> u32 {
        self.parts().iter().product()
    }

    pub fn threads(&self) -> u32 {
        32 * self.subgroups()
    }

    /// Eights from one row of an operand's tile to the next: one more than it has, so that rows do not begin at the same bank.
    fn stride(&self, operand: usize, along_k: bool) -> u32 {
        (if along_k { self.tile_k } else { self.tile[operand] }) / 8 + 1
    }

    fn eights(&self, operand: usize, along_k: bool) -> u32 {
        let rows = if along_k { self.tile[operand] } else { self.tile_k };
        rows * self.stride(operand, along_k)
    }

    /// Elements of c_part: equal rows of bias, or a matrix of each subgroup.
    fn c_part(&self) -> u32 {
        self.size * self.tile[1].max(self.subgroups() * self.size)
    }

    /// Most bytes of workgroup memory that any orientation takes.
    pub fn bytes(&self) -> u32 {
        let most = |operand| self.eights(operand, true).max(self.eights(operand, false));
        16 * self.buffers * (most(0) + most(1)) + 4 * self.c_part()
    }

    /// Whether the kernel can be made of it, and the first thing that speaks against it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { size, tile, part, tile_k, buffers, .. } = *self;
        let checks = [
            (matches!(size, 8 | 16), "matrices are of 8 or 16"),
            ((0..2).all(|i| tile[i] % part[i] == 0 && part[i] % size == 0), "parts are of whole matrices"),
            (tile_k % size == 0 && tile_k % 8 == 0, "a tile takes whole matrices of k"),
            (tile.iter().all(|rows| rows * tile_k / 8 % self.threads() == 0), "all threads fetch the same number of eights"),
            (matches!(buffers, 1 | 2), "there are one or two buffers"),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }
}

/// Every one that products can ask for.
pub(super) fn all() -> Vec<Matrices> {
    let large = |size| Matrices::by_shape(size, [1 << 20; 2], 1, u32::MAX);
    let small = |size| Matrices::by_shape(size, [1; 2], 1, u32::MAX);
    vec![large(8), large(16), small(8), small(16)]
}

/// Workgroups of the large tile that are enough for a large GPU: half of an H200's cores by them are faster than all by small ones.
const FILLING: u64 = 64;

/// The exponent that the largest number of A gets where it is stored as f32.
const LARGEST_EXPONENT: i32 = 14;

/// Whether A is scaled on its way to f16.
pub(super) fn is_scaled(a: Element) -> bool {
    a == Element::F32
}

/// One of the two operands, as the generated code names it.
#[derive(Clone, Copy)]
struct Operand {
    name: &'static str,
    /// The index that is not k.
    other: &'static str,
    along_k: bool,
    /// Numbers that a load takes: 8, 4 or 1.
    width: u32,
    /// Whether it is stored as f32, and what it is then multiplied by.
    wide: bool,
    scale: &'static str,
    /// Loads of eight that a thread makes.
    count: u32,
    size: u32,
    stride: u32,
    /// Where its tile begins, in eights.
    first: u32,
}

pub(super) fn source(matrices: Matrices, layout: ProductLayout) -> KernelSource {
    debug_assert_eq!(matrices.check(), Ok(()), "{matrices:?}");
    let Matrices { size, tile, part, tile_k, buffers, .. } = matrices;
    let ProductLayout { along_k, quads, eights, .. } = layout;
    let whole_k = layout.whole_k && eights == [true; 2];
    let scaled = is_scaled(layout.elements[0]);
    let tiles = [0, 1].map(|i| matrices.eights(i, along_k[i]));
    let constants = [
        ("SIZE", size),
        ("TILE_M", tile[0]),
        ("TILE_N", tile[1]),
        ("TILE_K", tile_k),
        ("PART_M", part[0]),
        ("PART_N", part[1]),
        ("PARTS_N", matrices.parts()[1]),
        ("SUBGROUPS", matrices.subgroups()),
        ("C_PART", matrices.c_part()),
        ("BUFFER", tiles[0] + tiles[1]),
        // Elements of workgroup memory for eight numbers.
        ("EIGHT", if matrices.quads { 2 } else { 8 }),
        ("A_ALONG_K", along_k[0].into()),
        ("B_ALONG_K", along_k[1].into()),
        ("WHOLE_K", whole_k.into()),
    ];
    let operand = |i: usize| Operand {
        name: ["a", "b"][i],
        other: ["m", "n"][i],
        along_k: along_k[i],
        width: if eights[i] {
            8
        } else if quads[i] {
            4
        } else {
            1
        },
        wide: layout.elements[i] == Element::F32,
        scale: if i == 0 { " * a_scale" } else { "" },
        count: tile[i] * tile_k / 8 / matrices.threads(),
        size: tile[i],
        stride: matrices.stride(i, along_k[i]),
        first: if i == 0 { 0 } else { tiles[0] },
    };
    let operands = [operand(0), operand(1)];
    let all = |lines: &dyn Fn(&Operand) -> String| operands.iter().map(lines).collect::<String>();
    let direct = layout.elements[2] == Element::F32;
    let mut bindings = layout.bindings([quads[0], quads[1], false]).to_vec();
    if scaled {
        bindings.push(Binding::write("control").of_u32());
    }
    let mut source = KernelSource::new(shader!("product/cooperative"), &constants, &bindings, StepIndex::None, MatmulSizes::WGSL);
    for (mark, lines) in [
        (
            "    // for every eight of a tile that the thread fetches: its place in memory and in the tile\n",
            scale(scaled) + &all(&|o| o.places(tile_k)),
        ),
        ("    // for every eight: next = fetch, the first\n", all(&|o| o.fetches("var ", "k_start", whole_k))),
        ("    // for every eight: tile = next, the first\n", all(&|o| o.stores("0u"))),
        ("    // for every matrix: var sum = coop_mat<f32, C>();\n", matrices.declare()),
        ("        // for every matrix: sum = coopLoadT(c_part);\n", matrices.begin()),
        ("        // for every eight: next = fetch\n", all(&|o| o.step(whole_k) + &o.fetches("", "k1", whole_k))),
        ("        // for every matrix, SIZE k after SIZE k: sum = coopMultiplyAdd(a, b, sum);\n", matrices.multiply(&operands)),
        ("        // for every eight: tile = next\n", turn(buffers, &all(&|o| o.stores("half")))),
        (
            "    // for every matrix: coopStoreT(sum, c) and return, where nothing forbids it\n",
            matrices.unscale(scaled) + &matrices.store(direct),
        ),
        ("    // for every matrix: coopStoreT(sum, c_part); put\n", matrices.put()),
    ] {
        source = source.with_lines(mark, &lines);
    }
    let element = if matrices.quads { "vec4h" } else { "f16" };
    let memory = format!("var<workgroup> tiles: array<{element}, {buffers}u * BUFFER * EIGHT>;\n");
    let generated = memory + &all(&Operand::fetch) + keep(matrices.quads);
    if operands.iter().any(|operand| operand.wide) {
        source = source.with_text("struct Wide { low: vec4f, high: vec4f }\n");
    }
    if scaled {
        source = source.with_file(shader!("shared/powers")).with_text("var<private> a_scale: f32;\n");
    }
    // Only what is bound as f16 says that there are such numbers.
    let enable = if layout.elements.contains(&Element::F16) { "" } else { "enable f16;\n" };
    source.wgsl.insert_str(0, enable);
    source.with_text(&generated).enabling("wgpu_cooperative_matrix")
}

/// The powers of two of A and of the sums.
fn scale(scaled: bool) -> String {
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

impl Operand {
    /// Before the loop, for each of its eights: `a_to0`, where it goes in the tile, `a_k0` and `a_o0`, its k within the tile and its
    /// other index, and where a load takes eight `a_at0`, its place in memory counted in eights.
    fn places(&self, tile_k: u32) -> String {
        let Self { name, other, along_k, count, size, stride, first, .. } = *self;
        let mut wgsl = String::new();
        let w = &mut wgsl;
        for i in 0..count {
            let row = if along_k { "EIGHTS_K".into() } else { format!("{}u", size / 8) };
            let _ = writeln!(w, "    let {name}_i{i} = thread + {i}u * THREADS;");
            let _ =
                writeln!(w, "    let {name}_to{i} = ({first}u + {name}_i{i} / {row} * {stride}u + {name}_i{i} % {row}) * EIGHT;");
            if along_k {
                let _ = writeln!(w, "    let {name}_k{i} = {name}_i{i} % EIGHTS_K * 8u;");
                let _ = writeln!(w, "    let {name}_o{i} = min({other}0 + {name}_i{i} / EIGHTS_K, sizes.{other} - 1u);");
                let _ =
                    writeln!(w, "    var {name}_at{i} = ({name}0 + {name}_o{i} * {name}_stride + k_first + {name}_k{i}) / 8u;");
            } else {
                let _ = writeln!(w, "    let {name}_k{i} = {name}_i{i} / {row};");
                let last = if self.width == 8 { "8u" } else { "1u" };
                let _ = writeln!(w, "    let {name}_o{i} = min({other}0 + {name}_i{i} % {row} * 8u, sizes.{other} - {last});");
                let _ =
                    writeln!(w, "    var {name}_at{i} = ({name}0 + (k_first + {name}_k{i}) * {name}_stride + {name}_o{i}) / 8u;");
            }
        }
        let step = if along_k { format!("{}u", tile_k / 8) } else { format!("{tile_k}u * {name}_stride / 8u") };
        let _ = writeln!(w, "    let {name}_step = {step};");
        wgsl
    }

    /// To the next tile. Where every tile is whole, the last is fetched again after it.
    fn step(&self, whole_k: bool) -> String {
        let name = self.name;
        let step = if whole_k { format!("select(0u, {name}_step, k1 < k_end)") } else { format!("{name}_step") };
        (0..self.count).map(|i| format!("        {name}_at{i} += {step};\n")).collect()
    }

    /// `a_next0 = fetch`, at the k of that name.
    fn fetches(&self, declare: &str, k: &str, whole_k: bool) -> String {
        let Self { name, other, along_k, width, .. } = *self;
        let line = |i| {
            let k = format!("{k} + {name}_k{i}");
            let value = match (width, whole_k) {
                (8, true) => format!("eight_{name}({name}_at{i})"),
                (8, false) => format!("fetch_{name}({name}_at{i}, {k} < k_end)"),
                _ if along_k => format!("fetch_{name}({name}0 + {name}_o{i} * {name}_stride, {k}, k_end, true)"),
                _ => format!("fetch_{name}({name}0 + ({k}) * {name}_stride, {name}_o{i}, sizes.{other}, {k} < k_end)"),
            };
            format!("    {declare}{name}_next{i} = {value};\n")
        };
        (0..self.count).map(line).collect()
    }

    fn stores(&self, half: &str) -> String {
        let name = self.name;
        // Rounded no sooner: the numbers are on their way till then.
        let narrow = if self.wide { format!("narrow_{name}") } else { String::new() };
        (0..self.count).map(|i| format!("    keep({half} + {name}_to{i}, {narrow}({name}_next{i}));\n")).collect()
    }

    /// `fetch_NAME`: eight numbers along the contiguous index, 0 where there are none.
    fn fetch(&self) -> String {
        let template = match self.width {
            8 => {
                "fn eight_$x(at: u32) -> Eight { return Eight($x[2u * at], $x[2u * at + 1u]); }
fn fetch_$x(at: u32, there: bool) -> Eight {
    var eight = Eight();
    if there { eight = eight_$x(at); }
    return eight;
}"
            }
            4 => {
                "fn four_$x(row: u32, i: u32, end: u32) -> vec4h {
    var four = vec4h();
    if i < end { four = $x[(row + i) / 4u]; }
    return four;
}
fn fetch_$x(row: u32, i: u32, end: u32, there: bool) -> Eight {
    if !there { return Eight(); }
    return Eight(four_$x(row, i, end), four_$x(row, i + 4u, end));
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
}
fn fetch_$x(row: u32, i: u32, end: u32, there: bool) -> Eight {
    if !there { return Eight(); }
    return Eight(four_$x(row, i, end), four_$x(row, i + 4u, end));
}"
            }
        };
        if !self.wide {
            return format!("\n{}\n", template.replace("$x", self.name));
        }
        let template = [("Eight", "Wide"), ("vec4h", "vec4f"), ("0.0h", "0.0"), ("f16", "f32")]
            .iter()
            .fold(template.to_string(), |template, (half, wide)| template.replace(half, wide));
        let narrow = format!(
            "fn narrow_$x(it: Wide) -> Eight {{ return Eight(vec4h(it.low{scale}), vec4h(it.high{scale})); }}",
            scale = self.scale
        );
        format!("\n{}\n{}\n", template, narrow).replace("$x", self.name)
    }

    /// Where the matrix begins that lies `offset` from `start` along the other index, in elements of workgroup memory.
    fn matrix(&self, start: &str, offset: u32, k: u32) -> String {
        let Self { first, stride, .. } = *self;
        match self.along_k {
            true => format!("half + (({start} + {offset}u) * {stride}u + {}u) * EIGHT", first + k / 8),
            false => format!("half + (({start} + {offset}u) / 8u + {}u) * EIGHT", first + k * stride),
        }
    }
}

/// The next tile goes into workgroup memory.
fn turn(buffers: u32, stores: &str) -> String {
    match buffers {
        1 => format!("        workgroupBarrier();\n{stores}        workgroupBarrier();\n"),
        _ => format!("        half = BUFFER * EIGHT - half;\n{stores}        workgroupBarrier();\n"),
    }
}

/// Puts eight numbers into workgroup memory.
fn keep(quads: bool) -> &'static str {
    if quads {
        return "
fn keep(to: u32, eight: Eight) {
    tiles[to] = eight.low;
    tiles[to + 1u] = eight.high;
}
";
    }
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

impl Matrices {
    /// Rows and columns of matrices that a subgroup makes.
    fn counts(&self) -> [u32; 2] {
        self.part.map(|size| size / self.size)
    }

    fn all(&self, mut line: impl FnMut(u32, u32) -> String) -> String {
        let [rows, columns] = self.counts();
        (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(row, column)| line(row, column)).collect()
    }

    fn ty(&self, element: &str, role: char) -> String {
        format!("coop_mat{0}x{0}<{element}, {role}>", self.size)
    }

    fn declare(&self) -> String {
        self.all(|row, column| format!("    var sum{row}_{column} = {}();\n", self.ty("f32", 'C')))
    }

    fn begin(&self) -> String {
        let [rows, columns] = self.counts();
        let mut wgsl = String::new();
        for column in 0..columns {
            let at = format!("column + {}u", column * self.size);
            let _ = writeln!(wgsl, "        let bias{column} = coopLoadT<{}>(&c_part[{at}], TILE_N);", self.ty("f32", 'C'));
            for row in 0..rows {
                let _ = writeln!(wgsl, "        sum{row}_{column} = bias{column};");
            }
        }
        wgsl
    }

    fn multiply(&self, [a, b]: &[Operand; 2]) -> String {
        let [rows, columns] = self.counts();
        let mut wgsl = String::new();
        let w = &mut wgsl;
        for k in (0..self.tile_k).step_by(self.size as usize) {
            let _ = writeln!(w, "        {{");
            // coopLoad takes columns one after another, coopLoadT rows.
            for row in 0..rows {
                let (load, at) = (if a.along_k { "coopLoadT" } else { "coopLoad" }, a.matrix("row", row * self.size, k));
                let _ =
                    writeln!(w, "            let a{row} = {load}<{}>(&tiles[{at}], {}u * EIGHT);", self.ty("f16", 'A'), a.stride);
            }
            for column in 0..columns {
                let (load, at) = (if b.along_k { "coopLoad" } else { "coopLoadT" }, b.matrix("column", column * self.size, k));
                let _ = writeln!(
                    w,
                    "            let b{column} = {load}<{}>(&tiles[{at}], {}u * EIGHT);",
                    self.ty("f16", 'B'),
                    b.stride
                );
            }
            *w += &self.all(|row, column| {
                let sum = format!("sum{row}_{column}");
                format!("            {sum} = coopMultiplyAdd(a{row}, b{column}, {sum});\n")
            });
            let _ = writeln!(w, "        }}");
        }
        wgsl
    }

    fn unscale(&self, scaled: bool) -> String {
        if !scaled {
            return String::new();
        }
        self.all(|row, column| format!("    sum{row}_{column} = sum{row}_{column} * unscale;\n"))
    }

    /// naga 30 writes no expression that stands within coopStore: what it takes has a name before.
    fn store(&self, direct: bool) -> String {
        if !direct {
            return String::new();
        }
        let mut wgsl = String::from("    if m0 + TILE_M <= sizes.m && n0 + TILE_N <= sizes.n && sizes.accumulate == 0u {\n");
        wgsl += "        let c_row = sizes.c_row;\n        let at = c0 + (m0 + row) * c_row + n0 + column;\n";
        wgsl += &self.all(|row, column| {
            let (row_at, column_at, name) = (row * self.size, column * self.size, format!("{row}_{column}"));
            format!(
                "        let part{name} = sum{name};
        let to{name} = at + {row_at}u * c_row + {column_at}u;
        coopStoreT(part{name}, &c[to{name}], c_row);
"
            )
        });
        wgsl + "        return;\n    }\n"
    }

    fn put(&self) -> String {
        let own = "    let own = subgroup * ELEMENTS;\n".to_owned();
        own + &self.all(|row, column| {
            format!(
                "    let part{row}_{column} = sum{row}_{column};
    coopStoreT(part{row}_{column}, &c_part[own], SIZE);
    workgroupBarrier();
    put(thread, c0, m0, n0, {row}u * SIZE, {column}u * SIZE);
    workgroupBarrier();
"
            )
        })
    }
}
