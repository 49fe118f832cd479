//! The dispatches of a product: cut so that each is short and fits a grid.

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::program::{Dispatch, Segment, Slot};
use crate::product::bounds;
use crate::product::kernel::ProductKernel;
use crate::product::layout::MatmulSizes;
use crate::product::operands::Product;
use crate::product::tile::Tiles;

/// How many parts a sum is best cut into for `batches` products of m x n: enough workgroups to fill the device, but at most `most`.
pub(crate) fn splits(ctx: &Context, tiles: Tiles, [m, n]: [u64; 2], batches: u64, most: u64) -> u64 {
    splits_of(ctx, ProductKernel::of(ctx, tiles.tn, [m, n], batches * most), [m, n], batches, most)
}

/// The same of products whose operands may be rounded to f16.
pub(crate) fn rounded_splits(ctx: &Context, tiles: Tiles, [m, n]: [u64; 2], batches: u64, most: u64) -> u64 {
    splits_of(ctx, ProductKernel::of_rounded(ctx, tiles, [m, n], batches * most), [m, n], batches, most)
}

pub(super) fn splits_of(ctx: &Context, form: ProductKernel, [m, n]: [u64; 2], batches: u64, most: u64) -> u64 {
    let wanted = if ctx.is_software() { 8 } else { form.wanted() };
    u64::div_ceil(wanted, form.tiles(m, n) * batches).clamp(1, most)
}

/// A multiple of every tile's rows, so that cutting a product leaves no ragged tiles behind.
const ROWS_OF_ANY_TILE: u64 = 256;

pub(super) fn matmul(ctx: &Context, form: ProductKernel, p: &Product) -> Result<Dispatch> {
    bounds::check(p)?;
    let kernel = ctx.kernel(form.source(form.layout(p)));
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
    let mut slots = vec![p.a.slot, p.b.slot, bias, p.c.slot];
    if form.scales(p) {
        debug_assert!(p.bias.is_none(), "sums that are scaled begin with none");
        slots.push(Slot::CONTROL);
    }
    Dispatch::new(ctx, kernel, &slots, &sizes, groups)
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
    // Equal parts, so that the last does not leave most of the device idle.
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
