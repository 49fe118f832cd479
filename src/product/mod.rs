//! Bulk products and sums: everything that is not the recurrence itself.

mod bounds;
mod cooperative;
#[cfg(all(feature = "tools", not(target_arch = "wasm32")))]
pub mod sweep;
mod tile;
mod tiled;

use std::ops::Range;

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Dispatch, Segment, Slot};

pub(crate) use cooperative::Matrices;
pub use tile::Tile;
pub(crate) use tile::Tiles;
pub(crate) use tiled::Blocking;

sizes! {
    MatmulSizes {
        m, n, k, batches, splits, k_per_split,
        a_offset, a_batch, a_row, a_col,
        b_offset, b_batch, b_row, b_col,
        c_offset, c_batch, c_split, c_row,
        bias_offset, bias_batch, has_bias, accumulate,
    }
}

/// A strided matrix within a slot; a stack of them if `batch` is used. In elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub slot: Slot,
    pub offset: u64,
    pub batch: u64,
    pub row: u64,
    pub col: u64,
}

impl Matrix {
    /// Row-major with `columns` columns.
    pub fn rows(slot: Slot, columns: u64) -> Self {
        Self { slot, offset: 0, batch: 0, row: columns, col: 1 }
    }

    pub fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// Distance to the next matrix of the stack.
    pub fn stacked(self, batch: u64) -> Self {
        Self { batch, ..self }
    }

    pub fn transposed(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }
}

/// C = A·B, `batches` times: A is [m, k], B is [k, n], C is [m, n].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub m: u64,
    pub n: u64,
    pub k: u64,
    pub batches: u64,
    pub a: Matrix,
    pub b: Matrix,
    /// Rows must be contiguous.
    pub c: Matrix,
    /// Offset of the bias in B's slot, `b.batch` apart within a stack.
    pub bias: Option<u64>,
    /// Adds to C instead of overwriting it.
    pub accumulate: bool,
    pub splits: Splits,
}

/// How the long dimension of a sum is cut: each part writes its own partial result, `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Splits {
    pub count: u64,
    pub stride: u64,
}

impl Splits {
    pub const NONE: Self = Self { count: 1, stride: 0 };
}

/// What a kernel knows of its operands when it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProductLayout {
    /// Whether A and B are contiguous along k, else along m and n.
    along_k: [bool; 2],
    /// Whether A, B and C can be read and written by fours.
    quads: [bool; 3],
    /// Whether A and B can be read by eights, which are 16 bytes of f16.
    eights: [bool; 2],
    /// How A and B are bound.
    access: [Access; 2],
    /// How A, B and C are stored.
    elements: [Element; 3],
    /// Whether A and B can be read by fours, and K is of whole steps of the kernel, so that no load needs a condition.
    whole_k: bool,
}

impl ProductLayout {
    /// A, B, bias and C; all but the bias by fours where `quads` says.
    fn bindings(&self, quads: [bool; 3]) -> [Binding; 4] {
        let ([a, b], [a_element, b_element, c_element]) = (self.access, self.elements);
        let stored = |binding: Binding, quads: bool, element| {
            if quads { binding.stored_quads(element) } else { binding.stored(element) }
        };
        [
            stored(Binding::new("a", a), quads[0], a_element),
            stored(Binding::new("b", b), quads[1], b_element),
            Binding::read("bias").stored(b_element),
            stored(Binding::write("c"), quads[2], c_element),
        ]
    }
}

impl Product {
    fn a_along_k(&self) -> bool {
        self.a.col == 1
    }

    fn b_along_k(&self) -> bool {
        self.b.col != 1
    }

    /// For a kernel that takes steps of `step` k. Splits begin at multiples of 4, so that none cuts a quad.
    fn layout(&self, step: u64) -> ProductLayout {
        let by = |width: u64, steps: &[u64]| steps.iter().all(|step| step.is_multiple_of(width));
        // A step that a stack of one never takes counts for nothing.
        let taken = |step: u64, count: u64| if count > 1 { step } else { 0 };
        let stack = |matrix: &Matrix| taken(matrix.batch, self.batches);
        let split = taken(self.splits.stride, self.splits.count);
        // A vector of four begins at a multiple of at most 16 bytes.
        let first = |matrix: &Matrix| matrix.slot.offset / 4;
        let a = if self.a_along_k() { [self.k, self.a.row] } else { [self.m, self.a.col] };
        let b = if self.b_along_k() { [self.k, self.b.col] } else { [self.n, self.b.row] };
        let read = |width, steps: &[u64], matrix: &Matrix| {
            by(width, steps) && by(width, &[matrix.offset, stack(matrix)]) && by(4, &[first(matrix)])
        };
        let c = [self.n, self.c.row, self.c.offset, stack(&self.c), split, first(&self.c)];
        let quads = [read(4, &a, &self.a), read(4, &b, &self.b), by(4, &c)];
        ProductLayout {
            along_k: [self.a_along_k(), self.b_along_k()],
            quads,
            eights: [read(8, &a, &self.a), read(8, &b, &self.b)],
            whole_k: quads[0] && quads[1] && self.k.is_multiple_of(step),
            access: [self.a.slot.read_access(), self.b.slot.read_access()],
            elements: [self.a, self.b, self.c].map(|matrix| matrix.slot.element),
        }
    }
}

/// Which kernel makes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProductKernel {
    /// `product/tiled.wgsl`, for GPUs.
    Tiled(Blocking),
    /// `product/cooperative.wgsl`, for products of f16 on GPUs that have such matrices, where the app asks for it.
    Cooperative(Matrices),
    /// `product/cpu.wgsl`, for CPU adapters. Its threads share loads of A by shuffles, or through workgroup memory.
    Cpu { shuffle: bool },
}

impl ProductKernel {
    /// `tile` is one that was chosen, `parts` the workgroups for each tile.
    fn of(ctx: &Context, tile: Option<Tile>, [m, n]: [u64; 2], parts: u64) -> Self {
        let vendor = ctx.adapter_info().vendor;
        match tile {
            Some(tile) => Self::Tiled(tile.blocking(vendor)),
            None if ctx.is_software() => Self::Cpu { shuffle: ctx.subgroups() },
            None => Self::Tiled(Tile::by_shape(vendor, m, n, parts).blocking(vendor)),
        }
    }

    fn of_product(ctx: &Context, tiles: Tiles, p: &Product) -> Self {
        match tiles.cooperative {
            Some(size) if [p.a, p.b].iter().all(|matrix| matrix.slot.element == Element::F16) => {
                let bytes = ctx.limits().max_compute_workgroup_storage_size;
                Self::Cooperative(Matrices::by_shape(size, [p.m, p.n], p.batches * p.splits.count, bytes))
            }
            _ => Self::of(ctx, tiles.of(p), [p.m, p.n], p.batches * p.splits.count),
        }
    }

    /// Tiles of C, each of which one workgroup makes.
    fn tiles(self, m: u64, n: u64) -> u64 {
        let [rows, columns] = match self {
            Self::Tiled(blocking) => blocking.tile,
            Self::Cooperative(matrices) => matrices.tile,
            Self::Cpu { .. } => CPU_TILE,
        };
        m.div_ceil(rows.into()) * n.div_ceil(columns.into())
    }

    /// The k that a workgroup takes at a time.
    fn step(self) -> u64 {
        match self {
            Self::Tiled(blocking) => blocking.tile_k.into(),
            Self::Cooperative(matrices) => matrices.tile_k.into(),
            Self::Cpu { .. } => 1,
        }
    }

    /// Whole steps of the kernel, so that only the last split has a ragged one.
    fn k_per_split(self, p: &Product) -> u64 {
        p.k.div_ceil(p.splits.count).next_multiple_of(self.step())
    }

    fn source(self, layout: ProductLayout) -> KernelSource {
        let shuffle = match self {
            Self::Tiled(blocking) => return tiled::source(blocking, layout),
            Self::Cooperative(matrices) => return cooperative::source(matrices, layout),
            Self::Cpu { shuffle } => shuffle,
        };
        let take = match shuffle {
            true => "product/cpu_shuffle",
            false => "product/cpu_memory",
        };
        let constants = [("TILE_M", CPU_TILE[0]), ("TILE_N", CPU_TILE[1])];
        KernelSource::new("product/cpu", &constants, &layout.bindings([false; 3]), StepIndex::None, MatmulSizes::WGSL)
            .with_file(take)
    }
}

/// Rows and columns of C that a workgroup of `product/cpu.wgsl` makes.
const CPU_TILE: [u32; 2] = [128, 32];

/// How many parts a sum is best cut into for `batches` products of m x n: enough workgroups to fill the device, but at most `most`.
pub(crate) fn splits(ctx: &Context, tiles: Tiles, [m, n]: [u64; 2], batches: u64, most: u64) -> u64 {
    splits_of(ctx, ProductKernel::of(ctx, tiles.tn, [m, n], batches * most), [m, n], batches, most)
}

fn splits_of(ctx: &Context, form: ProductKernel, [m, n]: [u64; 2], batches: u64, most: u64) -> u64 {
    let wanted = if ctx.is_software() { 8 } else { 512 };
    u64::div_ceil(wanted, form.tiles(m, n) * batches).clamp(1, most)
}

/// A multiple of every tile's rows, so that cutting a product leaves no ragged tiles behind.
const ROWS_OF_ANY_TILE: u64 = 256;

fn matmul(ctx: &Context, form: ProductKernel, p: &Product) -> Result<Dispatch> {
    bounds::check(p)?;
    let kernel = ctx.kernel(form.source(p.layout(form.step())));
    let bias = if p.bias.is_some() { p.b.slot } else { Slot::EMPTY };
    let sizes = MatmulSizes {
        m: p.m as u32,
        n: p.n as u32,
        k: p.k as u32,
        batches: p.batches as u32,
        splits: p.splits.count as u32,
        k_per_split: form.k_per_split(p) as u32,
        a_offset: p.a.offset as u32,
        a_batch: p.a.batch as u32,
        a_row: p.a.row as u32,
        a_col: p.a.col as u32,
        b_offset: p.b.offset as u32,
        b_batch: p.b.batch as u32,
        b_row: p.b.row as u32,
        b_col: p.b.col as u32,
        c_offset: p.c.offset as u32,
        c_batch: p.c.batch as u32,
        c_split: p.splits.stride as u32,
        c_row: p.c.row as u32,
        bias_offset: p.bias.unwrap_or(0) as u32,
        bias_batch: p.b.batch as u32,
        has_bias: p.bias.is_some().into(),
        accumulate: p.accumulate.into(),
    };
    let most = u64::from(ctx.limits().max_compute_workgroups_per_dimension);
    let tiles = form.tiles(p.m, p.n);
    let groups = [tiles.min(most), tiles.div_ceil(most), p.batches * p.splits.count];
    Dispatch::new(ctx, kernel, &[p.a.slot, p.b.slot, bias, p.c.slot], &sizes, groups)
}

/// Most FLOPs of one dispatch: well under 100 ms on a slow GPU.
const DISPATCH_FLOPS: u64 = 8_000_000_000;
/// The same on discrete GPUs. What a large one needs to be filled takes a small one a third of a second.
const DISCRETE_DISPATCH_FLOPS: u64 = 150_000_000_000;

/// C = A·B, cut by rows of C into as many dispatches as keep each of them short, and by matrices of the stack to fit a grid.
pub(crate) fn matmuls(ctx: &Context, tiles: Tiles, p: &Product) -> Result<Vec<Segment>> {
    let form = ProductKernel::of_product(ctx, tiles, p);
    let most = u64::from(ctx.limits().max_compute_workgroups_per_dimension);
    let batches = (most / p.splits.count).clamp(1, p.batches);
    let discrete = ctx.adapter_info().device_type == wgpu::DeviceType::DiscreteGpu;
    let most_flops = if discrete { DISCRETE_DISPATCH_FLOPS } else { DISPATCH_FLOPS };
    // Equal parts, lest the last leave most of the device idle.
    let parts = (2 * p.n * p.k * batches).saturating_mul(p.m).div_ceil(most_flops).clamp(1, p.m.max(1));
    let rows = p.m.div_ceil(parts).next_multiple_of(ROWS_OF_ANY_TILE);
    let mut dispatches = Vec::new();
    for batch in (0..p.batches).step_by(batches as usize) {
        for row in (0..p.m).step_by(rows as usize) {
            let part = Product {
                m: rows.min(p.m - row),
                batches: batches.min(p.batches - batch),
                a: p.a.at(p.a.offset + batch * p.a.batch + row * p.a.row),
                b: p.b.at(p.b.offset + batch * p.b.batch),
                c: p.c.at(p.c.offset + batch * p.c.batch + row * p.c.row),
                bias: p.bias.map(|bias| bias + batch * p.b.batch),
                ..*p
            };
            dispatches.push(matmul(ctx, form, &part)?.into());
        }
    }
    Ok(dispatches)
}

sizes! {
    ColumnSumSizes { rows, columns, batches, splits, rows_per_split, a_offset, a_batch, c_offset, c_batch, c_split, }
}

fn column_sum_source() -> KernelSource {
    let bindings = [Binding::write("a"), Binding::write("c")];
    KernelSource::new("product/column_sum", &[], &bindings, StepIndex::None, ColumnSumSizes::WGSL)
}

/// Sums the columns of `batches` matrices `a` [rows, columns], contiguous rows, into `c`.
pub(crate) fn column_sum(
    ctx: &Context,
    [rows, columns, batches]: [u64; 3],
    a: Matrix,
    c: Matrix,
    splits: Splits,
) -> Result<Dispatch> {
    let sizes = ColumnSumSizes {
        rows: rows as u32,
        columns: columns as u32,
        batches: batches as u32,
        splits: splits.count as u32,
        rows_per_split: rows.div_ceil(splits.count) as u32,
        a_offset: a.offset as u32,
        a_batch: a.batch as u32,
        c_offset: c.offset as u32,
        c_batch: c.batch as u32,
        c_split: splits.stride as u32,
    };
    let groups = [columns.div_ceil(64), 1, batches * splits.count];
    Dispatch::new(ctx, ctx.kernel(column_sum_source()), &[a.slot, c.slot], &sizes, groups)
}

sizes! {
    ReduceSizes { len, splits, offset, accumulate, }
}

fn reduce_source() -> KernelSource {
    let bindings = [Binding::write("partial"), Binding::write("dst")];
    KernelSource::new("product/reduce", &[], &bindings, StepIndex::None, ReduceSizes::WGSL)
}

/// Sums the `splits` parts of `partial` into (or onto) the elements `range` of `dst`.
pub(crate) fn reduce(
    ctx: &Context,
    partial: Slot,
    splits: u64,
    dst: Slot,
    range: Range<u64>,
    accumulate: bool,
) -> Result<Dispatch> {
    let len = range.end - range.start;
    let offset = range.start as u32;
    let sizes = ReduceSizes { len: len as u32, splits: splits as u32, offset, accumulate: accumulate.into() };
    Dispatch::new(ctx, ctx.kernel(reduce_source()), &[partial, dst], &sizes, elementwise(ctx, len))
}

/// Grid of a kernel that strides over `n` elements with 64 threads a workgroup.
pub(crate) fn elementwise(ctx: &Context, n: u64) -> [u64; 3] {
    [n.div_ceil(64).clamp(1, ctx.limits().max_compute_workgroups_per_dimension.into()), 1, 1]
}

/// Every source that this module can ask for, but for combinations that tell nothing new, for validation without a device.
pub(crate) fn sources() -> Vec<KernelSource> {
    let mut sources = vec![column_sum_source(), reduce_source()];
    let plain = ProductLayout {
        along_k: [true; 2],
        quads: [true; 3],
        eights: [true; 2],
        access: [Access::Read; 2],
        elements: [Element::F32; 3],
        whole_k: true,
    };
    let orientations = [[true, true], [true, false], [false, false]];
    for tile in Tile::ALL {
        for whole_k in [false, true] {
            let source = |along_k| ProductKernel::Tiled(tile.blocking(0)).source(ProductLayout { along_k, whole_k, ..plain });
            sources.extend(orientations.map(source));
        }
    }
    for matrices in cooperative::all() {
        for c in [Element::F32, Element::F16] {
            let elements = [Element::F16, Element::F16, c];
            for (eights, quads, whole_k) in [(true, true, true), (true, true, false), (false, true, false), (false, false, false)]
            {
                let (quads, eights) = ([quads; 3], [eights; 2]);
                let source = |along_k| {
                    ProductKernel::Cooperative(matrices).source(ProductLayout {
                        along_k,
                        quads,
                        eights,
                        elements,
                        whole_k,
                        ..plain
                    })
                };
                sources.extend(orientations.map(source));
            }
        }
    }
    for access in [[Access::Read; 2], [Access::ReadWrite, Access::Read], [Access::ReadWrite; 2]] {
        for elements in [
            [Element::F32; 3],
            [Element::F16, Element::F16, Element::F32],
            [Element::F32, Element::F16, Element::F16],
            [Element::PackedF16, Element::PackedF16, Element::F32],
        ] {
            for quads in [[true; 3], [false; 3]] {
                for along_k in orientations {
                    let layout = ProductLayout { along_k, quads, eights: [false; 2], access, elements, whole_k: false };
                    sources.push(ProductKernel::Tiled(Tile::Of32x32.blocking(0)).source(layout));
                }
            }
            for shuffle in [false, true] {
                sources.push(ProductKernel::Cpu { shuffle }.source(ProductLayout { access, elements, ..plain }));
            }
        }
    }
    sources
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use wgpu::BufferBinding;

    use super::*;
    use crate::gpu::program::{Bound, Role};

    /// Row-major in memory: A transposed (as weight gradients have it), B transposed (as x·Wᵀ has it).
    #[derive(Debug, Clone, Copy)]
    struct Case {
        shape: [u64; 3],
        transposed: [bool; 2],
        batches: u64,
        splits: u64,
        bias: bool,
        accumulate: bool,
        /// Elements of A, B and C before the first and after every row, which nothing may read or write.
        gaps: [u64; 3],
    }

    /// Elements of `count` row-major matrices with gaps, and the view of them.
    fn matrix(role: Role, [rows, columns]: [u64; 2], count: u64, gap: u64) -> Matrix {
        let row = columns + gap;
        let batch = rows * row + gap;
        let slot = Slot::whole(role, gap + count * batch);
        Matrix::rows(slot, row).at(gap).stacked(batch)
    }

    fn at(x: &Matrix, batch: u64, row: u64, column: u64) -> usize {
        (x.offset + batch * x.batch + row * x.row + column * x.col) as usize
    }

    impl Case {
        fn product(&self) -> Product {
            let Self { shape: [m, n, k], transposed, batches, splits: count, bias, accumulate, gaps } = *self;
            let stack = |role, [rows, columns]: [u64; 2], transposed: bool, gap| {
                if transposed {
                    matrix(role, [columns, rows], batches, gap).transposed()
                } else {
                    matrix(role, [rows, columns], batches, gap)
                }
            };
            let a = stack(Role::Input, [m, k], transposed[0], gaps[0]);
            let mut b = stack(Role::Params, [k, n], transposed[1], gaps[1]);
            let c = matrix(Role::Output, [m, n], batches * count, gaps[2]);
            let biases = b.slot.size / 4;
            // A bias follows the last matrix, those of a stack lie as far apart as its matrices.
            b.slot.size += 4 * ((batches - 1) * b.batch + n);
            let bias = bias.then_some(biases);
            Product { m, n, k, batches, a, b, c, bias, accumulate, splits: Splits { count, stride: batches * c.batch } }
        }

        /// The same in slots that end with the last element that is needed.
        fn cut(&self) -> Product {
            let mut p = self.product();
            let [m, n, k] = self.shape;
            let end =
                |x: &Matrix, [rows, columns]: [u64; 2], count: u64| 4 * (at(x, count - 1, rows - 1, columns - 1) as u64 + 1);
            p.a.slot.size = end(&p.a, [m, k], p.batches);
            p.b.slot.size = match p.bias {
                Some(bias) => 4 * (bias + (p.batches - 1) * p.b.batch + n),
                None => end(&p.b, [k, n], p.batches),
            };
            p.c.slot.size = end(&p.c, [m, n], p.batches * p.splits.count);
            p
        }

        /// What a buffer holds: NaN but for the elements that the product reads.
        fn filled(x: &Matrix, [rows, columns]: [u64; 2], count: u64, rng: &mut ChaCha8Rng) -> Vec<f32> {
            let mut values = vec![f32::NAN; (x.slot.size / 4) as usize];
            for batch in 0..count {
                for row in 0..rows {
                    for column in 0..columns {
                        values[at(x, batch, row, column)] = rng.random_range(-1.0..=1.0);
                    }
                }
            }
            values
        }

        fn check(&self, ctx: &Context, form: ProductKernel) {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let p = self.product();
            let [m, n, k] = self.shape;
            let a = Self::filled(&p.a, [m, k], p.batches, &mut rng);
            let mut b = Self::filled(&p.b, [k, n], p.batches, &mut rng);
            for batch in 0..p.batches {
                for column in p.bias.into_iter().flat_map(|bias| bias..bias + n) {
                    b[(batch * p.b.batch + column) as usize] = rng.random_range(-1.0..=1.0);
                }
            }
            let before = match p.accumulate {
                true => Self::filled(&p.c, [m, n], p.batches * p.splits.count, &mut rng),
                false => vec![f32::NAN; (p.c.slot.size / 4) as usize],
            };
            let [first, second] = [0; 2].map(|_| run(ctx, matmul(ctx, form, &p).unwrap(), [&a, &b, &before]));
            assert!(first.iter().map(|x| x.to_bits()).eq(second.iter().map(|x| x.to_bits())), "not repeatable");

            let mut written = vec![false; before.len()];
            let part = form.k_per_split(&p);
            for z in 0..p.batches * p.splits.count {
                let (batch, split) = (z % p.batches, z / p.batches);
                for row in 0..m {
                    for column in 0..n {
                        let to = at(&p.c, z, row, column);
                        let terms = (split * part..k.min((split + 1) * part))
                            .map(|k| f64::from(a[at(&p.a, batch, row, k)]) * f64::from(b[at(&p.b, batch, k, column)]));
                        let mut expected: f64 = terms.sum();
                        expected += p.bias.map_or(0.0, |bias| f64::from(b[(bias + batch * p.b.batch + column) as usize]));
                        expected += if p.accumulate { f64::from(before[to]) } else { 0.0 };
                        let off = (f64::from(first[to]) - expected).abs();
                        assert!(
                            off <= 1e-5,
                            "batch {batch}, split {split}, row {row}, column {column}: {} for {expected}",
                            first[to]
                        );
                        written[to] = true;
                    }
                }
            }
            for (i, written) in written.into_iter().enumerate() {
                assert!(written || first[i].to_bits() == before[i].to_bits(), "element {i} of a gap was written");
            }
        }
    }

    fn run(ctx: &Context, dispatch: Dispatch, [a, b, c]: [&[f32]; 3]) -> Vec<f32> {
        let buffers = [a, b, c].map(|values| ctx.upload("product", values).unwrap());
        let buffer = |role| {
            let index = [Role::Input, Role::Params, Role::Output].into_iter().position(|r| r == role)?;
            Some(BufferBinding { buffer: &buffers[index], offset: 0, size: None })
        };
        let bound = Bound::new(ctx, &[dispatch.into()], buffer).unwrap();
        let mut encoder = ctx.encoder("product");
        bound.record(&mut encoder.begin_compute_pass(&Default::default()));
        ctx.submit(encoder).unwrap();
        let [c] = pollster::block_on(ctx.download([&buffers[2]])).unwrap();
        c
    }

    type Change = fn(&mut Product);

    /// A·Bᵀ, A·B and Aᵀ·B.
    const ORIENTATIONS: [[bool; 2]; 3] = [[false, true], [false, false], [true, false]];

    /// Every form that this device can run, so a software adapter tests GPUs' too.
    #[test]
    fn every_form_keeps_the_contract() {
        let ctx = context();
        // Larger tiles take a CPU adapter seconds to compile.
        let tiles = if ctx.is_software() { &Tile::ALL[..1] } else { &Tile::ALL };
        let mut forms: Vec<_> = tiles.iter().map(|&tile| ProductKernel::Tiled(tile.blocking(0))).collect();
        forms.push(ProductKernel::Cpu { shuffle: false });
        forms.extend(ctx.subgroups().then_some(ProductKernel::Cpu { shuffle: true }));
        let shapes = [[1, 1, 1], [3, 17, 65], [17, 65, 3], [64, 63, 64], [63, 64, 17], [129, 33, 130], [260, 3, 5]];
        // By fours: within one tile, exactly some tiles, a little more, and with a k that ends within a tile.
        let even = [[4, 4, 4], [32, 64, 32], [36, 100, 48], [132, 68, 20]];
        // For each orientation two operands by fours, the third as it comes.
        let even_gaps = [[4, 4, 3], [3, 4, 4], [4, 3, 4]];
        for form in forms {
            for (transposed, even_gaps) in ORIENTATIONS.into_iter().zip(even_gaps) {
                let cases = shapes.map(|shape| (shape, [3; 3])).into_iter().chain(even.map(|shape| (shape, even_gaps)));
                for (shape, gaps) in cases {
                    // Of 5 splits of a k of 1 or 3, and of 4 of a k of 5, some are empty.
                    for (batches, splits, bias, accumulate) in
                        [(1, 1, true, false), (2, 1, true, true), (1, 1, false, true), (2, 5, false, false), (1, 4, false, true)]
                    {
                        let case = Case { shape, transposed, batches, splits, bias, accumulate, gaps };
                        assert_eq!(case.product().layout(1).quads, gaps.map(|gap| gap == 4), "{case:?}");
                        println!("{form:?}: {case:?}");
                        case.check(&ctx, form);
                    }
                }
            }
        }
    }

    /// More than one of every tile in each direction, and ragged. The smallest is held to more than this; that of 128 x 64 has the block
    /// of one of these and the threads of the other.
    #[test]
    fn larger_tiles_compute_the_same() {
        let ctx = context();
        for tile in [Tile::Of64x64, Tile::Of128x128] {
            let shape = [260, 132, 36];
            let case =
                Case { shape, transposed: [false, true], batches: 1, splits: 1, bias: true, accumulate: false, gaps: [4; 3] };
            case.check(&ctx, ProductKernel::Tiled(tile.blocking(0)));
        }
    }

    /// What does not begin at a multiple of 4 is not read by fours, wherever it does not.
    #[test]
    fn quads_need_every_step_even() {
        let case = |transposed, batches, splits| Case {
            shape: [8, 12, 16],
            transposed,
            batches,
            splits,
            bias: false,
            accumulate: false,
            gaps: [4; 3],
        };
        // Four odd steps are even: each must be.
        for (transposed, count) in ORIENTATIONS.into_iter().flat_map(|transposed| [(transposed, 2), (transposed, 5)]) {
            let even = case(transposed, count, count).product();
            assert_eq!(even.layout(1).quads, [true; 3]);
            let uneven: [(usize, Change); 15] = [
                (0, |p| p.a.offset += 2),
                (0, |p| p.a.batch += 2),
                (0, |p| p.a.slot.offset += 8),
                (0, |p| if p.a.col == 1 { p.a.row += 1 } else { p.a.col += 1 }),
                (0, |p| if p.a.col == 1 { p.k += 1 } else { p.m += 1 }),
                (1, |p| p.b.offset += 2),
                (1, |p| p.b.batch += 2),
                (1, |p| p.b.slot.offset += 8),
                (1, |p| if p.b.col == 1 { p.b.row += 1 } else { p.b.col += 1 }),
                (1, |p| if p.b.col == 1 { p.n += 1 } else { p.k += 1 }),
                (2, |p| p.c.offset += 2),
                (2, |p| p.c.batch += 2),
                (2, |p| p.c.row += 1),
                (2, |p| p.n += 1),
                (2, |p| p.splits.stride += 1),
            ];
            for (i, (operand, change)) in uneven.into_iter().enumerate() {
                let mut product = even;
                change(&mut product);
                assert!(!product.layout(1).quads[operand], "{transposed:?}, {count} of them, change {i}");
            }
        }
    }

    /// A slot that ends with the last element of its operand is enough, one that ends before it is refused by name.
    #[test]
    fn no_index_leaves_its_slot() {
        let ctx = context();
        for (transposed, form) in ORIENTATIONS
            .map(|t| (t, ProductKernel::Tiled(Tile::Of32x32.blocking(0))))
            .into_iter()
            .chain([([false; 2], ProductKernel::Cpu { shuffle: false })])
        {
            let case = Case { shape: [5, 7, 9], transposed, batches: 2, splits: 3, bias: true, accumulate: false, gaps: [3; 3] };
            let p = case.cut();
            let ends = [p.a, p.b, p.c].map(|matrix| matrix.slot.elements());
            matmul(&ctx, form, &p).unwrap();
            let refused = |p: &Product, words: [String; 3]| {
                let error = matmul(&ctx, form, p).unwrap_err().to_string();
                assert!(words.iter().all(|word| error.contains(word)), "{error}: {words:?}");
            };
            for (operand, name) in ["`input`, A", "`params`, the bias", "`output`, C"].into_iter().enumerate() {
                let mut short = p;
                let slot = [&mut short.a.slot, &mut short.b.slot, &mut short.c.slot].into_iter().nth(operand).unwrap();
                slot.size -= 4;
                refused(&short, [name.into(), format!("needs {}", ends[operand]), format!("has {}", ends[operand] - 1)]);
            }
            let mut short = p;
            let b_last = Case { bias: false, ..case }.cut().b.slot.elements();
            (short.bias, short.b.slot.size) = (None, 4 * (b_last - 1));
            refused(&short, ["`params`, B".into(), format!("needs {b_last}"), format!("has {}", b_last - 1)]);
            // Strides so long that their sum is beyond a u64 are refused, not added up.
            let mut far = p;
            far.a.batch = u64::MAX;
            refused(&far, ["`input`, A".into(), "needs".into(), "has".into()]);
            let impossible: [Change; 4] =
                [|p| p.m = 0, |p| p.k = 1 << 32, |p| p.splits.count = 0, |p| p.a = Matrix { row: 3, col: 2, ..p.a }];
            for change in impossible {
                let mut p = p;
                change(&mut p);
                assert!(matches!(matmul(&ctx, form, &p), Err(crate::Error::Range { .. })), "{p:?}");
            }
        }
    }

    /// A tiled product whose threads spoil their part of C where they read outside of a slot.
    fn watched(ctx: &Context, p: &Product) -> Dispatch {
        let form = ProductKernel::Tiled(Tile::Of32x32.blocking(0));
        let mut source = form.source(p.layout(form.step()));
        for name in ["a", "b", "bias"] {
            let load = format!("{{ let values = {name}[i];");
            assert_eq!(source.wgsl.matches(&load).count(), 1, "{name}");
            let watch = format!("{{ if i >= arrayLength(&{name}) {{ outside = 1e9; }} let values = {name}[i];");
            source.wgsl = source.wgsl.replace(&load, &watch);
        }
        let put = "n: u32, sum: vec4f) {";
        assert_eq!(source.wgsl.matches(put).count(), 1);
        source.wgsl =
            source.wgsl.replace(put, "n: u32, clean: vec4f) { let sum = clean + outside;") + "var<private> outside: f32;\n";
        Dispatch { kernel: ctx.kernel(source), ..matmul(ctx, form, p).unwrap() }
    }

    /// The kernel reads nothing outside of slots that end with the last element.
    #[test]
    fn nothing_is_read_outside() {
        let ctx = context();
        let [nt, _, tn] = ORIENTATIONS;
        // Of such sizes those who read the last elements have a part of C to spoil.
        for (transposed, shape, gap) in
            [(nt, [30, 31, 13], 3), (tn, [30, 31, 13], 3), (nt, [36, 28, 8], 4), (tn, [32, 28, 12], 4)]
        {
            for bias in [false, true] {
                let case = Case { shape, transposed, batches: 2, splits: 2, bias, accumulate: false, gaps: [gap; 3] };
                let p = case.cut();
                assert_eq!(p.layout(1).quads, [gap == 4; 3]);
                let values = [p.a, p.b, p.c].map(|matrix| vec![0.5; matrix.slot.elements() as usize]);
                let values = [&values[0][..], &values[1], &values[2]];
                let spoiled = |dispatch| run(&ctx, dispatch, values).iter().any(|&c| c > 1e8);
                assert!(!spoiled(watched(&ctx, &p)), "{case:?}");
                // B ends with the bias, if there is one.
                for slot in if bias { [0, 2] } else { [0, 1] } {
                    let mut short = watched(&ctx, &p);
                    short.slots[slot].size -= if gap == 4 && slot < 2 { 16 } else { 4 };
                    assert!(spoiled(short), "{case:?}: slot {slot}");
                }
            }
        }
    }

    /// Where the app asks for them, and both operands are f16.
    #[test]
    fn products_of_halves_take_cooperative_matrices() {
        let ctx = context();
        let case = Case {
            shape: [4, 4, 4],
            transposed: [false, true],
            batches: 1,
            splits: 1,
            bias: false,
            accumulate: false,
            gaps: [4; 3],
        };
        let with = Tiles { cooperative: Some(16), ..Tiles::all(Tile::Of32x32) };
        let mut p = case.product();
        for (elements, form) in [
            ([Element::F16, Element::F16], ProductKernel::Cooperative(Matrices::by_shape(16, [4, 4], 1, 16384))),
            ([Element::F32, Element::F16], ProductKernel::Tiled(Tile::Of32x32.blocking(0))),
            ([Element::F16, Element::F32], ProductKernel::Tiled(Tile::Of32x32.blocking(0))),
            ([Element::PackedF16, Element::PackedF16], ProductKernel::Tiled(Tile::Of32x32.blocking(0))),
        ] {
            [p.a.slot.element, p.b.slot.element] = elements;
            assert_eq!(ProductKernel::of_product(&ctx, with, &p), form);
            assert_eq!(
                ProductKernel::of_product(&ctx, Tiles::all(Tile::Of32x32), &p),
                ProductKernel::Tiled(Tile::Of32x32.blocking(0))
            );
        }
    }

    /// One for all tests, so that they share what takes a CPU adapter seconds to compile.
    pub(crate) fn context() -> Context {
        static SHARED: OnceLock<Context> = OnceLock::new();
        SHARED.get_or_init(|| pollster::block_on(Context::request()).expect("this needs an adapter")).clone()
    }
}
