//! Sums over the rows of a matrix, and over the parts of a product whose sum was cut.

use std::ops::Range;

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Dispatch, Slot, elementwise};
use crate::gpu::shaders::shader;
use crate::product::operands::{Matrix, Splits};

sizes! {
    ColumnSumSizes {
        rows, columns, batches, splits, rows_per_split, a_offset, a_batch, c_offset, c_batch, c_split, twin, accumulate,
    }
}

/// Columns of a workgroup, and the threads that share each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sharing {
    columns: u32,
    lanes: u32,
}

impl Sharing {
    /// A thread a column, as suits processors.
    const ALONE: Self = Self { columns: 64, lanes: 1 };
    /// A GPU must have far more loads on their way than a thread a column gives: of 4096 rows and 3072 columns 49 KB.
    const TOGETHER: Self = Self { columns: 32, lanes: 8 };
    pub const ALL: [Self; 2] = [Self::ALONE, Self::TOGETHER];

    fn of(ctx: &Context) -> Self {
        if ctx.is_software() { Self::ALONE } else { Self::TOGETHER }
    }
}

pub(super) fn column_sum_source(Sharing { columns, lanes }: Sharing) -> KernelSource {
    let bindings = [Binding::write("a"), Binding::write("c")];
    let constants = [("COLUMNS", columns), ("LANES", lanes)];
    KernelSource::new(shader!("product/column_sum"), &constants, &bindings, StepIndex::None, ColumnSumSizes::WGSL)
}

/// Sums of the columns of `batches` matrices `a` [rows, columns], contiguous rows, into `c`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColumnSum {
    pub rows: u64,
    pub columns: u64,
    pub batches: u64,
    pub a: Matrix,
    pub c: Matrix,
    /// How far behind each sum it is written again; 0 for nowhere.
    pub twin: u64,
    /// Adds to C instead of overwriting it.
    pub accumulate: bool,
    pub splits: Splits,
}

impl ColumnSum {
    pub fn dispatch(&self, ctx: &Context) -> Result<Dispatch> {
        self.shared(ctx, Sharing::of(ctx))
    }

    pub(super) fn shared(&self, ctx: &Context, sharing: Sharing) -> Result<Dispatch> {
        let Self { rows, columns, batches, a, c, twin, accumulate, splits } = *self;
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
            twin: twin as u32,
            accumulate: accumulate.into(),
        };
        let groups = [columns.div_ceil(sharing.columns.into()), 1, batches * splits.count];
        Dispatch::new(ctx, ctx.kernel(column_sum_source(sharing)), &[a.slot, c.slot], &sizes, groups)
    }
}

sizes! {
    ReduceSizes { len, splits, offset, accumulate, }
}

pub(super) fn reduce_source() -> KernelSource {
    let bindings = [Binding::write("partial"), Binding::write("dst")];
    KernelSource::new(shader!("product/reduce"), &[], &bindings, StepIndex::None, ReduceSizes::WGSL)
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
