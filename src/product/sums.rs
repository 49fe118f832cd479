//! Sums over the rows of a matrix, and over the parts of a product whose sum was cut.

use std::ops::Range;

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Dispatch, Slot, elementwise};
use crate::product::operands::{Matrix, Splits};

sizes! {
    ColumnSumSizes { rows, columns, batches, splits, rows_per_split, a_offset, a_batch, c_offset, c_batch, c_split, }
}

pub(super) fn column_sum_source() -> KernelSource {
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

pub(super) fn reduce_source() -> KernelSource {
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
