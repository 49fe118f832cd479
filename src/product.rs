//! Bulk products and sums: everything that is not the recurrence itself.

use std::ops::Range;

use crate::context::Context;
use crate::error::Result;
use crate::kernel::{Access, Binding, KernelSource, StepIndex, sizes};
use crate::program::{Dispatch, Segment, Slot};
use crate::storage::Element;

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
    pub fn batched(self, batch: u64) -> Self {
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

/// Which kernel makes a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `matmul.wgsl`, for GPUs: a tile of C, and the k that it takes at a time.
    Tiled { tile: [u32; 3] },
    /// `matmul_held.wgsl`, for CPU adapters. Its threads share loads of A by shuffles, or through workgroup memory.
    Held { shuffle: bool },
}

impl Form {
    const TILED: Self = Self::Tiled { tile: [64, 64, 16] };

    fn of(ctx: &Context) -> Self {
        if ctx.is_software() { Self::Held { shuffle: ctx.subgroups() } } else { Self::TILED }
    }

    /// Tile of C that one workgroup makes.
    fn tile(self) -> [u32; 2] {
        match self {
            Self::Tiled { tile: [m, n, _] } => [m, n],
            Self::Held { .. } => [128, 32],
        }
    }

    fn tiles(self, m: u64, n: u64) -> u64 {
        let [tile_m, tile_n] = self.tile().map(u64::from);
        m.div_ceil(tile_m) * n.div_ceil(tile_n)
    }

    /// `along` says whether A's columns and B's are contiguous, `access` is theirs, `elements` those of A, B and C.
    fn source(
        self,
        [a_along_k, b_along_n]: [bool; 2],
        [a, b]: [Access; 2],
        [a_element, b_element, c_element]: [Element; 3],
    ) -> KernelSource {
        let [tile_m, tile_n] = self.tile();
        let mut constants = vec![("TILE_M", tile_m), ("TILE_N", tile_n)];
        let bindings = [
            Binding::new("a", a).stored(a_element),
            Binding::new("b", b).stored(b_element),
            Binding::read("bias").stored(b_element),
            Binding::write("c").stored(c_element),
        ];
        match self {
            Self::Tiled { tile: [_, _, tile_k] } => {
                constants.extend([("TILE_K", tile_k), ("A_ALONG_K", a_along_k.into()), ("B_ALONG_N", b_along_n.into())]);
                let files = [MatmulSizes::WGSL, include_str!("../shaders/matmul.wgsl")];
                KernelSource::new("matmul", &constants, &bindings, StepIndex::None, &files)
            }
            Self::Held { shuffle } => {
                let take = match shuffle {
                    true => include_str!("../shaders/matmul_held_shuffle.wgsl"),
                    false => include_str!("../shaders/matmul_held_memory.wgsl"),
                };
                let files = [MatmulSizes::WGSL, take, include_str!("../shaders/matmul_held.wgsl")];
                KernelSource::new("matmul_held", &constants, &bindings, StepIndex::None, &files)
            }
        }
    }
}

/// Tiles of C that a product of that shape is cut into.
pub(crate) fn tiles(ctx: &Context, m: u64, n: u64) -> u64 {
    Form::of(ctx).tiles(m, n)
}

/// A multiple of every tile's rows, so that cutting a product leaves no ragged tiles behind.
const ROWS_OF_ANY_TILE: u64 = 128;

pub(crate) fn matmul(ctx: &Context, p: &Product) -> Result<Dispatch> {
    matmul_as(Form::of(ctx), ctx, p)
}

fn matmul_as(form: Form, ctx: &Context, p: &Product) -> Result<Dispatch> {
    let access = [p.a.slot.read_access(), p.b.slot.read_access()];
    let elements = [p.a, p.b, p.c].map(|matrix| matrix.slot.element);
    let kernel = ctx.kernel(form.source([p.a.col == 1, p.b.col == 1], access, elements))?;
    let bias = if p.bias.is_some() { p.b.slot } else { Slot::EMPTY };
    let sizes = MatmulSizes {
        m: p.m as u32,
        n: p.n as u32,
        k: p.k as u32,
        batches: p.batches as u32,
        splits: p.splits.count as u32,
        k_per_split: p.k.div_ceil(p.splits.count) as u32,
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

/// Work of one dispatch of a product: well under 100 ms on a slow GPU.
const DISPATCH_FLOPS: u64 = 8_000_000_000;

/// [`matmul`], cut by rows of C into as many dispatches as keep each of them short, and by matrices of the stack to fit a grid.
pub(crate) fn matmuls(ctx: &Context, p: &Product) -> Result<Vec<Segment>> {
    let most = u64::from(ctx.limits().max_compute_workgroups_per_dimension);
    let batches = (most / p.splits.count).clamp(1, p.batches);
    let rows = (DISPATCH_FLOPS / (2 * p.n * p.k * batches)).clamp(1, p.m).next_multiple_of(ROWS_OF_ANY_TILE);
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
            dispatches.push(matmul(ctx, &part)?.into());
        }
    }
    Ok(dispatches)
}

sizes! {
    ColumnSumSizes { rows, columns, batches, splits, rows_per_split, a_offset, a_batch, c_offset, c_batch, c_split, }
}

fn column_sum_source() -> KernelSource {
    let bindings = [Binding::write("a"), Binding::write("c")];
    let files = [ColumnSumSizes::WGSL, include_str!("../shaders/column_sum.wgsl")];
    KernelSource::new("column_sum", &[], &bindings, StepIndex::None, &files)
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
    Dispatch::new(ctx, ctx.kernel(column_sum_source())?, &[a.slot, c.slot], &sizes, groups)
}

sizes! {
    ReduceSizes { len, splits, offset, accumulate, }
}

fn reduce_source() -> KernelSource {
    let bindings = [Binding::write("partial"), Binding::write("dst")];
    let files = [ReduceSizes::WGSL, include_str!("../shaders/reduce.wgsl")];
    KernelSource::new("reduce", &[], &bindings, StepIndex::None, &files)
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
    Dispatch::new(ctx, ctx.kernel(reduce_source())?, &[partial, dst], &sizes, elementwise(ctx, len))
}

/// Grid of a kernel that strides over `n` elements with 64 threads a workgroup.
pub(crate) fn elementwise(ctx: &Context, n: u64) -> [u64; 3] {
    [n.div_ceil(64).clamp(1, ctx.limits().max_compute_workgroups_per_dimension.into()), 1, 1]
}

/// Every source that this module can ask for, for validation without a device.
pub(crate) fn sources() -> Vec<KernelSource> {
    let mut sources = vec![column_sum_source(), reduce_source()];
    for access in [[Access::Read; 2], [Access::ReadWrite, Access::Read], [Access::ReadWrite; 2]] {
        for elements in [
            [Element::F32; 3],
            [Element::F16, Element::F16, Element::F32],
            [Element::F32, Element::F16, Element::F16],
            [Element::PackedF16, Element::PackedF16, Element::F32],
        ] {
            for along in [[true, false], [true, true], [false, true]] {
                sources.push(Form::TILED.source(along, access, elements));
            }
            for shuffle in [false, true] {
                sources.push(Form::Held { shuffle }.source([true; 2], access, elements));
            }
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use wgpu::BufferBinding;

    use super::*;
    use crate::program::{Bound, Role};

    /// Elements before the first and between any two rows, which nothing may read or write.
    const GAP: u64 = 3;

    /// Row-major in memory: A transposed (as weight gradients have it), B transposed (as x·Wᵀ has it).
    #[derive(Debug, Clone, Copy)]
    struct Case {
        shape: [u64; 3],
        transposed: [bool; 2],
        batches: u64,
        splits: u64,
        bias: bool,
        accumulate: bool,
    }

    /// Elements of `count` row-major matrices with gaps, and the view of them.
    fn matrix(role: Role, [rows, columns]: [u64; 2], count: u64) -> Matrix {
        let row = columns + GAP;
        let batch = rows * row + GAP;
        let slot = Slot::whole(role, GAP + count * batch);
        Matrix::rows(slot, row).at(GAP).batched(batch)
    }

    fn at(x: &Matrix, batch: u64, row: u64, column: u64) -> usize {
        (x.offset + batch * x.batch + row * x.row + column * x.col) as usize
    }

    impl Case {
        fn product(&self) -> Product {
            let Self { shape: [m, n, k], transposed, batches, splits: count, bias, accumulate } = *self;
            let stack = |role, [rows, columns]: [u64; 2], transposed: bool| {
                if transposed {
                    matrix(role, [columns, rows], batches).transposed()
                } else {
                    matrix(role, [rows, columns], batches)
                }
            };
            let a = stack(Role::Input, [m, k], transposed[0]);
            let mut b = stack(Role::Params, [k, n], transposed[1]);
            let c = matrix(Role::Output, [m, n], batches * count);
            let biases = b.slot.size / 4;
            // A bias follows the last matrix, those of a stack lie as far apart as its matrices.
            b.slot.size += 4 * ((batches - 1) * b.batch + n);
            let bias = bias.then_some(biases);
            Product { m, n, k, batches, a, b, c, bias, accumulate, splits: Splits { count, stride: batches * c.batch } }
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

        fn check(&self, ctx: &Context, form: Form) {
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
            let [first, second] = [0; 2].map(|_| run(ctx, form, &p, [&a, &b, &before]));
            assert!(first.iter().map(|x| x.to_bits()).eq(second.iter().map(|x| x.to_bits())), "not repeatable");

            let mut written = vec![false; before.len()];
            let part = k.div_ceil(p.splits.count);
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

    fn run(ctx: &Context, form: Form, p: &Product, [a, b, c]: [&[f32]; 3]) -> Vec<f32> {
        let buffers = [a, b, c].map(|values| ctx.upload("product", values).unwrap());
        let segment = Segment::from(matmul_as(form, ctx, p).unwrap());
        let buffer = |role| {
            let index = [Role::Input, Role::Params, Role::Output].into_iter().position(|r| r == role)?;
            Some(BufferBinding { buffer: &buffers[index], offset: 0, size: None })
        };
        let bound = Bound::new(ctx, &[segment], buffer).unwrap();
        let mut encoder = ctx.device().create_command_encoder(&Default::default());
        bound.record(&mut encoder.begin_compute_pass(&Default::default()));
        ctx.queue().submit([encoder.finish()]);
        let [c] = pollster::block_on(ctx.download([&buffers[2]])).unwrap();
        c
    }

    /// Every form that this device can run, so a software adapter tests GPUs' too.
    #[test]
    fn every_form_keeps_the_contract() {
        let ctx = pollster::block_on(Context::request()).expect("this needs an adapter");
        // The tile of GPUs takes a CPU adapter 6 s to compile.
        let tiled = if ctx.is_software() { Form::Tiled { tile: [32, 32, 8] } } else { Form::TILED };
        let mut forms = vec![tiled, Form::Held { shuffle: false }];
        forms.extend(ctx.subgroups().then_some(Form::Held { shuffle: true }));
        let shapes = [[1, 1, 1], [3, 17, 65], [17, 65, 3], [64, 63, 64], [63, 64, 17], [129, 33, 130], [260, 3, 5]];
        for form in forms {
            for shape in shapes {
                for transposed in [[false, true], [false, false], [true, false]] {
                    // Of 5 splits of a k of 1 or 3, and of 4 of a k of 5, some are empty.
                    for (batches, splits, bias, accumulate) in
                        [(1, 1, true, false), (2, 1, true, true), (1, 1, false, true), (2, 5, false, false), (1, 4, false, true)]
                    {
                        let case = Case { shape, transposed, batches, splits, bias, accumulate };
                        println!("{form:?}: {case:?}");
                        case.check(&ctx, form);
                    }
                }
            }
        }
    }
}
