//! The WGSL of products by cooperative matrices: `product/cooperative.wgsl` and the lines that name each matrix.

mod operand;
mod rounding;

use std::fmt::Write;

use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::shaders::shader;
use crate::product::layout::{MatmulSizes, ProductLayout};

use operand::{Operand, UNIT, keep};
pub(super) use rounding::is_scaled;

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
    /// Whether that memory is of `vec4h`, else of `f16`, which Metal's matrices want. naga 30 takes a matrix's type from what it is
    /// loaded from: from `vec4u` it would be one of u32.
    pub quads: bool,
    /// Whether the next tiles are asked for before the barrier behind which this pair is multiplied.
    pub early: bool,
}

impl Matrices {
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

    /// Elements of workgroup memory for eight numbers.
    fn eight(&self) -> u32 {
        if self.quads { 2 } else { 8 }
    }

    /// A or B as the generated code has it.
    fn operand(&self, i: usize, layout: ProductLayout) -> Operand {
        let ProductLayout { along_k, quads, .. } = layout;
        let row = if along_k[i] { self.tile_k } else { self.tile[i] };
        Operand {
            name: ["a", "b"][i],
            other: ["m", "n"][i],
            along_k: along_k[i],
            quads: quads[i],
            whole: layout.whole[i] && quads[i],
            single: layout.elements[i] == Element::F32,
            count: self.tile[i] * self.tile_k / UNIT / self.threads(),
            apart: self.threads() * UNIT / row,
            eight: self.eight(),
            size: self.tile[i],
            stride: self.stride(i, along_k[i]),
            first: if i == 0 { 0 } else { self.eights(0, along_k[0]) },
        }
    }

    /// Elements of c_part: equal rows of bias, or a matrix of each subgroup.
    fn c_part(&self) -> u32 {
        self.size * self.tile[1].max(self.subgroups() * self.size)
    }

    /// Most bytes of workgroup memory that any orientation takes.
    pub fn bytes(&self) -> u32 {
        let most = |operand| self.eights(operand, true).max(self.eights(operand, false));
        16 * (most(0) + most(1)) + 4 * self.c_part()
    }

    /// Whether the kernel can be made of it, and the first thing that speaks against it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { size, tile, part, tile_k, .. } = *self;
        let threads = self.threads();
        let mut fetched = tile.iter().map(|rows| rows * tile_k / UNIT);
        let mut rows = tile.iter().chain([&tile_k]).map(|row| row / UNIT);
        let checks = [
            (matches!(size, 8 | 16), "matrices are of 8 or 16"),
            ((0..2).all(|i| tile[i] % part[i] == 0 && part[i] % size == 0), "parts are of whole matrices"),
            (tile_k % size == 0 && tile_k % 8 == 0, "a tile takes whole matrices of k"),
            (fetched.all(|count| count.is_multiple_of(threads)), "all threads fetch as much"),
            (rows.all(|row| threads.is_multiple_of(row)), "all threads fetch whole rows at once"),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }
}

pub(super) fn source(matrices: Matrices, layout: ProductLayout) -> KernelSource {
    debug_assert_eq!(matrices.check(), Ok(()), "{matrices:?}");
    let Matrices { size, tile, part, tile_k, .. } = matrices;
    let ProductLayout { along_k, quads, whole_k, .. } = layout;
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
        ("TILES", tiles[0] + tiles[1]),
        ("EIGHT", matrices.eight()),
        ("A_ALONG_K", along_k[0].into()),
        ("B_ALONG_K", along_k[1].into()),
        ("WHOLE_K", whole_k.into()),
    ];
    let operands = [0, 1].map(|i| matrices.operand(i, layout));
    let all = |lines: &dyn Fn(&Operand) -> String| operands.iter().map(lines).collect::<String>();
    let direct = layout.elements[2] == Element::F32;
    let mut bindings = layout.bindings([quads[0], quads[1], false]).to_vec();
    let scaled = is_scaled(layout.elements[0]);
    if scaled {
        bindings.push(Binding::write("control").of_u32());
    }
    let mut source = KernelSource::new(shader!("product/cooperative"), &constants, &bindings, StepIndex::None, MatmulSizes::WGSL);
    let (stores, fetch) = (&all(&Operand::stores), all(&|o| o.step(whole_k) + &o.fetches("", "k1", whole_k)));
    for (mark, lines) in [
        (
            "    // for every unit that the thread fetches of a tile: its place in memory and in the tile\n",
            rounding::scale(scaled) + &all(&|o| o.places(tile_k)),
        ),
        ("    // for every unit: next = fetch, the first\n", all(&|o| o.fetches("var ", "k_start", whole_k))),
        ("    // for every unit: tile = next, the first\n", if matrices.early { String::new() } else { stores.clone() }),
        ("    // for every matrix: var sum = coop_mat<f32, C>();\n", matrices.declare()),
        ("        // for every matrix: sum = coopLoadT(c_part);\n", matrices.begin()),
        ("        // for every unit: next = fetch\n", matrices.before(stores, &fetch)),
        ("        // for every matrix, SIZE k after SIZE k: sum = coopMultiplyAdd(a, b, sum);\n", matrices.multiply(&operands)),
        ("        // for every unit: tile = next\n", matrices.behind(stores)),
        (
            "    // for every matrix: coopStoreT(sum, c) and return, where nothing forbids it\n",
            matrices.unscale(scaled) + &matrices.store(direct),
        ),
        ("    // for every matrix: coopStoreT(sum, c_part); put\n", matrices.put()),
    ] {
        source = source.with_lines(mark, &lines);
    }
    let element = if matrices.quads { "vec4h" } else { "f16" };
    let memory = format!("var<workgroup> tiles: array<{element}, TILES * EIGHT>;\n");
    let generated = memory + &all(&Operand::fetch) + keep(matrices.quads);
    rounding::declare(source, layout.elements).with_text(&generated).enabling("wgpu_cooperative_matrix")
}

impl Matrices {
    /// What a turn of the loop does before it multiplies, and behind: `stores` put the next tiles into workgroup memory.
    fn before(&self, stores: &str, fetch: &str) -> String {
        if self.early { format!("{stores}{fetch}        workgroupBarrier();\n") } else { fetch.into() }
    }

    fn behind(&self, stores: &str) -> String {
        let barrier = "        workgroupBarrier();\n";
        if self.early { barrier.into() } else { format!("{barrier}{stores}{barrier}") }
    }

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
