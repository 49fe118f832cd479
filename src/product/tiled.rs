//! The WGSL of products on GPUs: `product/tiled.wgsl` and the code that depends on a tile and on how the operands lie.

use std::fmt::Write;

use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::gpu::shaders::shader;
use crate::product::layout::{MatmulSizes, ProductLayout};

/// How the threads of a workgroup make a tile of C: see `product/tiled.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocking {
    /// Rows and columns of C that a workgroup makes.
    pub tile: [u32; 2],
    /// Rows and columns that a thread makes.
    pub block: [u32; 2],
    /// The k that a workgroup takes at a time.
    pub tile_k: u32,
    /// Groups of threads that share out that k.
    pub slices: u32,
    /// Pairs of tiles that workgroup memory holds: 1 or 2.
    pub buffers: u32,
}

impl Blocking {
    pub fn threads(&self) -> u32 {
        self.slice_threads() * self.slices
    }

    fn slice_threads(&self) -> u32 {
        self.tile[0] / self.block[0] * (self.tile[1] / self.block[1])
    }

    /// Quads of A and B, and of both in all buffers.
    fn tile_quads(&self) -> [u32; 2] {
        self.tile.map(|size| size / 4 * self.tile_k)
    }

    fn memory_quads(&self) -> u32 {
        self.buffers * self.tile_quads().iter().sum::<u32>()
    }

    /// Bytes of workgroup memory.
    #[cfg(any(test, all(feature = "tools", not(target_arch = "wasm32"))))]
    pub fn bytes(&self) -> u32 {
        16 * self.memory_quads()
    }

    /// Whether the kernel can be made of it, and the first thing that speaks against it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self { tile, block, tile_k, slices, buffers } = *self;
        let threads = [tile[0] / block[0], tile[1] / block[1]];
        let checks = [
            (block.iter().all(|size| size % 4 == 0) && (0..2).all(|i| tile[i] % block[i] == 0), "blocks are of whole quads"),
            (threads[0] % 8 == 0 && threads[1] % 8 == 0, "a thread's quads lie multiples of 8 apart, beyond the swizzle"),
            (tile_k % 4 == 0 && [1, 2, 4, 8].contains(&(tile_k / 4)), "the swizzle knows 1, 2, 4 and 8 quads of k"),
            (tile_k % (4 * slices) == 0, "a slice takes whole quads of k"),
            (self.tile_quads().iter().all(|quads| quads % self.threads() == 0), "all threads fetch the same number of quads"),
            (block[0] % slices == 0, "each slice writes as many rows"),
            (slices == 1 || self.round_rows() > 0, "the sums of a row fit workgroup memory"),
            (matches!(buffers, 1 | 2), "there are one or two buffers"),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// Rows of a block that all slices but one can hand over at a time: a divisor of those that a slice writes.
    fn round_rows(&self) -> u32 {
        let row = (self.slices - 1) * self.block[1] / 4 * self.slice_threads();
        let own = self.block[0] / self.slices;
        (1..=own).rev().find(|rows| own.is_multiple_of(*rows) && rows * row <= self.memory_quads()).unwrap_or(0)
    }
}

/// One of the two operands, as the generated code names it.
#[derive(Clone, Copy)]
struct Operand {
    name: &'static str,
    /// The index that is not k, and the tile's first.
    other: &'static str,
    along_k: bool,
    quads: bool,
    /// Quads that a thread fetches.
    count: u32,
    size: u32,
}

pub(super) fn source(blocking: Blocking, layout: ProductLayout) -> KernelSource {
    debug_assert_eq!(blocking.check(), Ok(()), "{blocking:?}");
    let Blocking { tile, block, tile_k, slices, buffers } = blocking;
    let ProductLayout { along_k, quads, whole_k, .. } = layout;
    let constants = [
        ("TILE_M", tile[0]),
        ("TILE_N", tile[1]),
        ("TILE_K", tile_k),
        ("BLOCK_M", block[0]),
        ("BLOCK_N", block[1]),
        ("SLICES", slices),
        ("BUFFERS", buffers),
        ("A_ALONG_K", along_k[0].into()),
        ("B_ALONG_K", along_k[1].into()),
        ("WHOLE_K", whole_k.into()),
    ];
    let operand = |i: usize| Operand {
        name: ["a", "b"][i],
        other: ["m", "n"][i],
        along_k: along_k[i],
        quads: quads[i],
        count: blocking.tile_quads()[i] / blocking.threads(),
        size: tile[i],
    };
    let operands = [operand(0), operand(1)];
    let mut source =
        KernelSource::new(shader!("product/tiled"), &constants, &layout.bindings(quads), StepIndex::None, MatmulSizes::WGSL);
    let all = |lines: &dyn Fn(&Operand) -> String| operands.iter().map(lines).collect::<String>();
    for (mark, lines) in [
        (
            "    // for every quad of a tile that the thread fetches: its place in memory and in the tile\n",
            all(&|o| o.places(blocking)),
        ),
        ("    // for every quad: next = fetch, the first\n", all(&|o| o.fetches(true, whole_k))),
        ("    // for every quad: tile = next, the first\n", all(&|o| o.stores("0u"))),
        ("    // for every quad of the block: var sum = vec4f();\n", sums(block)),
        ("        // for every quad: next = fetch\n", steps(&operands, whole_k) + &all(&|o| o.fetches(false, whole_k))),
        ("        // for every k of the slice: sum += a * b\n", multiply(blocking, along_k)),
        ("        // for every quad: tile = next\n", turn(buffers, &operands)),
        ("    // for every quad of the block: put\n", write(blocking)),
    ] {
        source = source.with_lines(mark, &lines);
    }
    source.with_text(&(all(&|o| o.fetch(whole_k)) + put(quads[2])))
}

impl Operand {
    /// Numbers that a load takes; places in memory are counted in them.
    fn width(&self) -> u32 {
        if self.quads { 4 } else { 1 }
    }

    /// Before the loop: `a_at0`, where the first quad lies in memory, `a_to0`, where in the tile, and `a_k0`, its k within the tile.
    fn places(&self, blocking: Blocking) -> String {
        let (Self { name, other, count, size, .. }, Blocking { tile_k, .. }) = (*self, blocking);
        let (width, threads) = (self.width(), blocking.threads());
        let mut wgsl = String::new();
        let w = &mut wgsl;
        let _ = writeln!(w, "    // Beyond the last row or column the last is taken: that ends where nothing is written.");
        for i in 0..count {
            let _ = writeln!(w, "    let {name}_i{i} = thread + {}u;", i * threads);
            if self.along_k {
                let _ = writeln!(w, "    let {name}_k{i} = {name}_i{i} % QUADS_K * 4u;");
                let _ = writeln!(w, "    let {name}_o{i} = {name}_i{i} / QUADS_K;");
                let _ = writeln!(
                    w,
                    "    var {name}_at{i} = ({name}0 + min({other}0 + {name}_o{i}, sizes.{other} - 1u) * {name}_stride + k_first + {name}_k{i}) / {width}u;"
                );
                let _ = writeln!(
                    w,
                    "    let {name}_to{i} = {}{name}_k{i} * {}u + ({name}_o{i} / 4u ^ swizzle({name}_k{i} / 4u));",
                    self.first(),
                    size / 4
                );
            } else {
                let _ = writeln!(w, "    let {name}_k{i} = {name}_i{i} / {}u;", size / 4);
                let _ = writeln!(
                    w,
                    "    let {name}_o{i} = min({other}0 + {name}_i{i} % {}u * 4u, sizes.{other} - {width}u);",
                    size / 4
                );
                let _ = writeln!(
                    w,
                    "    var {name}_at{i} = ({name}0 + {name}_o{i} + (k_first + {name}_k{i}) * {name}_stride) / {width}u;"
                );
                let _ = writeln!(w, "    let {name}_to{i} = {}{name}_i{i};", self.first());
            }
        }
        let step = if self.along_k { format!("{tile_k}u") } else { format!("{tile_k}u * {name}_stride") };
        let _ = writeln!(w, "    let {name}_step = {step} / {width}u;");
        wgsl
    }

    fn first(&self) -> &'static str {
        if self.name == "a" { "" } else { "B_TILE + " }
    }

    /// `a_next0 = fetch`, at the first k or at the next.
    fn fetches(&self, first: bool, whole_k: bool) -> String {
        let Self { name, other, .. } = *self;
        let mut wgsl = String::new();
        for i in 0..self.count {
            let (declare, k) = if first { ("var ", "k_start") } else { ("", "k1") };
            let guard = match (whole_k, self.along_k || self.quads) {
                (true, _) => String::new(),
                (false, true) => format!(", {k} + {name}_k{i}, k_end"),
                (false, false) => format!(", {k} + {name}_k{i}, k_end, sizes.{other} - 1u - {name}_o{i}"),
            };
            let _ = writeln!(wgsl, "    {declare}{name}_next{i} = fetch_{name}({name}_at{i}{guard});");
        }
        wgsl
    }

    /// A quad along the other index is stored as it is, one along k in four places.
    fn stores(&self, half: &str) -> String {
        let Self { name, size, .. } = *self;
        let mut wgsl = String::new();
        for i in 0..self.count {
            if self.along_k {
                for (step, component) in ["x", "y", "z", "w"].into_iter().enumerate() {
                    let _ = writeln!(
                        wgsl,
                        "    tiles[{half} + {name}_to{i} + {}u][{name}_o{i} % 4u] = {name}_next{i}.{component};",
                        step as u32 * size / 4
                    );
                }
            } else {
                let _ = writeln!(wgsl, "    tiles[{half} + {name}_to{i}] = {name}_next{i};");
            }
        }
        wgsl
    }

    /// `fetch_NAME`: four numbers along the contiguous index, 0 from `k_end` on.
    fn fetch(&self, whole_k: bool) -> String {
        let template = match (whole_k, self.quads, self.along_k) {
            (true, ..) => "fn fetch_$x(at: u32) -> vec4f { return load4_$x(at); }",
            (_, true, _) => {
                "fn fetch_$x(at: u32, k: u32, k_end: u32) -> vec4f {
    var quad = vec4f();
    if k < k_end { quad = load4_$x(at); }
    return quad;
}"
            }
            (_, false, true) => {
                "fn fetch_$x(at: u32, k: u32, k_end: u32) -> vec4f {
    if k >= k_end { return vec4f(); }
    let i = at + min(FOUR, vec4u(k_end - 1u - k));
    let quad = vec4f(load_$x(i.x), load_$x(i.y), load_$x(i.z), load_$x(i.w));
    return select(vec4f(), quad, k + FOUR < vec4u(k_end));
}"
            }
            (_, false, false) => {
                "fn fetch_$x(at: u32, k: u32, k_end: u32, rest: u32) -> vec4f {
    if k >= k_end { return vec4f(); }
    let i = at + min(FOUR, vec4u(rest));
    return vec4f(load_$x(i.x), load_$x(i.y), load_$x(i.z), load_$x(i.w));
}"
            }
        };
        format!("\n{}\n", template.replace("$x", self.name))
    }
}

/// Steps to the next tile. Where every tile is whole, the last is fetched again after it, so that no load hangs on a condition.
fn steps(operands: &[Operand; 2], whole_k: bool) -> String {
    let mut wgsl = String::from("        let k1 = k0 + TILE_K;\n");
    if whole_k {
        wgsl += "        let more = k1 < k_end;\n";
    }
    for Operand { name, count, .. } in operands {
        for i in 0..*count {
            let step = if whole_k { format!("select(0u, {name}_step, more)") } else { format!("{name}_step") };
            let _ = writeln!(wgsl, "        {name}_at{i} += {step};");
        }
    }
    wgsl
}

fn sums([rows, columns]: [u32; 2]) -> String {
    let mut wgsl = String::new();
    for row in 0..rows {
        for quad in 0..columns / 4 {
            let _ = writeln!(wgsl, "    var sum{row}_{quad} = vec4f();");
        }
    }
    wgsl
}

/// Adds the products of a slice's part of the tile.
fn multiply(blocking: Blocking, along_k: [bool; 2]) -> String {
    let ([rows, columns], Blocking { tile, tile_k, slices, .. }) = (blocking.block, blocking);
    let slice_k = tile_k / slices;
    let mut wgsl = String::new();
    let w = &mut wgsl;
    for k_quad in 0..slice_k / 4 {
        for (i, (name, thread)) in [("a", "tm"), ("b", "tn")].into_iter().enumerate() {
            let (base, quads) = (["half", "half + B_TILE"][i], tile[i] / 4);
            let place =
                if along_k[i] { format!("({thread} ^ swizzle(slice * {}u + {k_quad}u))", slice_k / 4) } else { thread.into() };
            let _ =
                writeln!(w, "        let {name}{k_quad} = {base} + (slice * SLICE_K + {}u) * {quads}u + {place};", 4 * k_quad);
        }
        for k in 0..4 {
            let _ = writeln!(w, "        {{");
            for group in 0..rows / 4 {
                let _ = writeln!(w, "            let x{group} = tiles[a{k_quad} + {}u + {group}u * THREADS_M];", k * tile[0] / 4);
            }
            for quad in 0..columns / 4 {
                let _ = writeln!(w, "            let y{quad} = tiles[b{k_quad} + {}u + {quad}u * THREADS_N];", k * tile[1] / 4);
            }
            for row in 0..rows {
                for quad in 0..columns / 4 {
                    let (group, component) = (row / 4, ["x", "y", "z", "w"][row as usize % 4]);
                    let sum = format!("sum{row}_{quad}");
                    let _ = writeln!(w, "            {sum} = fma(vec4f(x{group}.{component}), y{quad}, {sum});");
                }
            }
            let _ = writeln!(w, "        }}");
        }
    }
    wgsl
}

/// The next tile goes into workgroup memory.
fn turn(buffers: u32, operands: &[Operand; 2]) -> String {
    let stores = operands.iter().map(|operand| operand.stores("half")).collect::<String>();
    if buffers == 1 {
        return format!("        workgroupBarrier();\n{stores}        workgroupBarrier();\n");
    }
    format!("        half = BUFFER - half;\n{stores}        workgroupBarrier();\n")
}

/// Puts the block's quads, after all slices' sums of them were added up.
fn write(blocking: Blocking) -> String {
    let Blocking { block: [rows, columns], slices, .. } = blocking;
    let quads = columns / 4;
    let mut wgsl = String::new();
    for quad in 0..quads {
        let _ = writeln!(wgsl, "    let to{quad} = n + {quad}u * THREADS_N * 4u;");
        let _ = writeln!(wgsl, "    let bias{quad} = bias_quad(bias_at, to{quad});");
    }
    let put = |row: u32, quad: u32| {
        let m = format!("m + {}u * THREADS_M * 4u + {}u", row / 4, row % 4);
        format!("    put(c_at, {m}, to{quad}, sum{row}_{quad} + bias{quad});\n")
    };
    let all = |rows: std::ops::Range<u32>| rows.flat_map(move |row| (0..quads).map(move |quad| (row, quad)));
    if slices == 1 {
        return all(0..rows).fold(wgsl, |wgsl, (row, quad)| wgsl + &put(row, quad));
    }
    let at_a_time = blocking.round_rows();
    let plane = at_a_time * quads * blocking.slice_threads();
    for first in (0..rows).step_by(at_a_time as usize) {
        let owner = first / (rows / slices);
        let place = |row: u32, quad: u32| format!("{}u + member", ((row - first) * quads + quad) * blocking.slice_threads());
        let _ = writeln!(
            wgsl,
            "    if slice != {owner}u {{\n        let to = (slice - select(0u, 1u, slice > {owner}u)) * {plane}u;"
        );
        for (row, quad) in all(first..first + at_a_time) {
            let _ = writeln!(wgsl, "        tiles[to + {}] = sum{row}_{quad};", place(row, quad));
        }
        let _ = writeln!(wgsl, "    }}\n    workgroupBarrier();\n    if slice == {owner}u {{");
        for (row, quad) in all(first..first + at_a_time) {
            for other in 0..slices - 1 {
                let _ = writeln!(wgsl, "        sum{row}_{quad} += tiles[{}u + {}];", other * plane, place(row, quad));
            }
            wgsl += &put(row, quad);
        }
        wgsl += "    }\n    workgroupBarrier();\n";
    }
    wgsl
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
