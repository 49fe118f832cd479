//! Bulk products and sums: everything that is not the recurrence itself.

use std::ops::Range;

use crate::context::Context;
use crate::error::Result;
use crate::kernel::{Access, Binding, KernelSource, StepIndex, sizes};
use crate::program::{Dispatch, Segment, Slot};

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

/// Tile of C that one workgroup makes; smaller on a CPU adapter, where registers and compile time are short.
fn tile(ctx: &Context) -> [u32; 3] {
    if ctx.is_software() { [32, 32, 8] } else { [64, 64, 16] }
}

/// Tiles of C that a product of that shape is cut into.
pub(crate) fn tiles(ctx: &Context, m: u64, n: u64) -> u64 {
    let [tile_m, tile_n, _] = tile(ctx).map(u64::from);
    m.div_ceil(tile_m) * n.div_ceil(tile_n)
}

/// A multiple of every tile's rows, so that cutting a product leaves no ragged tiles behind.
const ROWS_OF_ANY_TILE: u64 = 64;

fn matmul_source(tile: [u32; 3], a_along_k: bool, b_along_n: bool, access: [Access; 2]) -> KernelSource {
    let [tile_m, tile_n, tile_k] = tile;
    let constants = [
        ("TILE_M", tile_m),
        ("TILE_N", tile_n),
        ("TILE_K", tile_k),
        ("A_ALONG_K", a_along_k.into()),
        ("B_ALONG_N", b_along_n.into()),
    ];
    let mut bindings = [Binding::read("a"), Binding::read("b"), Binding::read("bias"), Binding::write("c")];
    bindings[0].access = access[0];
    bindings[1].access = access[1];
    let files = [MatmulSizes::WGSL, include_str!("../shaders/matmul.wgsl")];
    KernelSource::new("matmul", &constants, &bindings, StepIndex::None, &files)
}

pub(crate) fn matmul(ctx: &Context, p: &Product) -> Result<Dispatch> {
    let tile = tile(ctx);
    let access = [p.a.slot.read_access(), p.b.slot.read_access()];
    let kernel = ctx.kernel(matmul_source(tile, p.a.col == 1, p.b.col == 1, access))?;
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
    let tiles = tiles(ctx, p.m, p.n);
    let groups = [tiles.min(most), tiles.div_ceil(most), p.batches * p.splits.count];
    Dispatch::new(ctx, kernel, &[p.a.slot, p.b.slot, bias, p.c.slot], &sizes, groups)
}

/// Work of one dispatch of a product: well under 100 ms on a slow GPU.
const DISPATCH_FLOPS: u64 = 8_000_000_000;

/// [`matmul`], cut by rows of C into as many dispatches as keep each of them short.
pub(crate) fn matmuls(ctx: &Context, p: &Product) -> Result<Vec<Segment>> {
    let most = (DISPATCH_FLOPS / (2 * p.n * p.k * p.batches)).clamp(1, p.m).next_multiple_of(ROWS_OF_ANY_TILE);
    let cut = |first: u64| {
        let (a, c) = (p.a.at(p.a.offset + first * p.a.row), p.c.at(p.c.offset + first * p.c.row));
        Ok(matmul(ctx, &Product { m: most.min(p.m - first), a, c, ..*p })?.into())
    };
    (0..p.m).step_by(most as usize).map(cut).collect()
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
    for tile in [[32, 32, 8], [64, 64, 16]] {
        for (a_along_k, b_along_n) in [(true, false), (true, true), (false, true)] {
            for access in [[Access::Read; 2], [Access::ReadWrite, Access::Read], [Access::ReadWrite; 2]] {
                sources.push(matmul_source(tile, a_along_k, b_along_n, access));
            }
        }
    }
    sources
}
