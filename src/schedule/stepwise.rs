//! One fused dispatch per step: the product with W_hh, and the cell in its epilogue.

use crate::cell::ShaderCell;
use crate::error::{Error, Limit, Result};
use crate::gpu::capabilities::{INVOCATIONS, WORKGROUP_BYTES};
use crate::gpu::context::IN_BROWSER;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::program::{Dispatch, Segment, Slot};
use crate::gpu::shaders::shader;
use crate::schedule::interface::{Layer, Schedule, check_groups};
use crate::schedule::layer::{
    BackwardSlots, ForwardSlots, LayerSizes, Phase, all_backward_bindings, all_forward_bindings, phases, step_index,
};
use crate::schedule::unrolled;

/// What a workgroup of a step kernel makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    /// Hidden units, one per column of threads.
    units: u32,
    /// Threads that share the K of one unit.
    lanes: u32,
    /// Batch rows, all held by every thread.
    rows: u32,
    /// Length of K that is staged in workgroup memory at a time.
    k: u32,
}

impl Tile {
    /// The tile for `batch` rows of `accumulators` gates each, within the workgroup memory of every device.
    fn new(batch: u32, accumulators: u32) -> Result<Self> {
        let rows = match batch {
            1 => 1,
            2..=4 => 4,
            _ => 8,
        };
        let mut tile = Self { units: 8, lanes: 8, rows, k: 128 };
        while tile.workgroup_bytes(accumulators) > WORKGROUP_BYTES && tile.rows > 1 {
            tile.rows /= 2;
        }
        while tile.workgroup_bytes(accumulators) > WORKGROUP_BYTES && tile.units > 1 {
            tile.units /= 2;
        }
        debug_assert!(tile.units * tile.lanes <= INVOCATIONS);
        let needed = tile.workgroup_bytes(accumulators);
        if needed > WORKGROUP_BYTES {
            let limit = Limit::Layout("workgroup memory for the gates of a cell".into());
            return Err(Error::Limit { limit, needed: needed.into(), actual: WORKGROUP_BYTES.into() });
        }
        Ok(tile)
    }

    fn workgroup_bytes(self, accumulators: u32) -> u32 {
        4 * (self.rows * self.k + self.units * self.lanes * self.rows * accumulators)
    }

    /// Grid over units, batch rows and directions.
    fn groups(self, sizes: &LayerSizes) -> [u64; 3] {
        [sizes.hidden.div_ceil(self.units).into(), sizes.batch.div_ceil(self.rows).into(), sizes.directions.into()]
    }
}

fn constants(tile: Tile, phase: Phase) -> [(&'static str, u32); 7] {
    [
        ("UNITS", tile.units),
        ("LANES", tile.lanes),
        ("ROWS", tile.rows),
        ("TILE_K", tile.k),
        ("PHASE", phase.number),
        ("FIRST", phase.first),
        ("COUNT", phase.count),
    ]
}

fn forward_source(cell: &ShaderCell, tile: Tile, phase: Phase, step: StepIndex, bindings: [Binding; 7]) -> KernelSource {
    KernelSource::new(shader!("recurrence/stepwise_forward"), &constants(tile, phase), &bindings, step, LayerSizes::WGSL)
        .with_cell(cell)
}

fn forward(layer: &Layer<'_>, s: &ForwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let mut dispatches = Vec::new();
    for phase in phases(cell) {
        if let Some(dispatch) = unrolled::step_forward(layer, phase, s)? {
            dispatches.push(dispatch);
            continue;
        }
        let tile = Tile::new(sizes.batch, phase.count)?;
        let kernel = ctx.kernel(forward_source(cell, tile, phase, step_index(ctx), s.bindings()));
        dispatches.push(Dispatch::new(ctx, kernel, &s.slots(), sizes, tile.groups(sizes))?);
    }
    Ok(vec![Segment { dispatches, steps: 0..sizes.window_len }])
}

fn backward_source(cell: &ShaderCell, tile: Tile, phase: Phase, step: StepIndex, bindings: [Binding; 8]) -> KernelSource {
    KernelSource::new(shader!("recurrence/stepwise_backward"), &constants(tile, phase), &bindings, step, LayerSizes::WGSL)
        .with_cell(cell)
}

fn backward(layer: &Layer<'_>, s: &BackwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let mut dispatches = Vec::new();
    for phase in phases(cell) {
        if let Some(dispatch) = unrolled::step_backward(layer, phase, s)? {
            dispatches.push(dispatch);
            continue;
        }
        let tile = Tile::new(sizes.batch, 1)?;
        let kernel = ctx.kernel(backward_source(cell, tile, phase, step_index(ctx), s.bindings()));
        dispatches.push(Dispatch::new(ctx, kernel, &s.slots(), sizes, tile.groups(sizes))?);
    }
    let first = dispatches[0].clone();
    let mut segments = vec![Segment { dispatches, steps: 0..sizes.seq_len }];
    if s.d_initial_state != Slot::EMPTY {
        // One product more carries the gradient over the edge before the first step.
        segments.push(Segment { dispatches: vec![first], steps: sizes.seq_len..sizes.seq_len + 1 });
    }
    Ok(segments)
}

/// Every source of this strategy, for validation without a device.
fn sources(cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for phase in phases(cell) {
        for tile in [1, 4, 8].into_iter().filter_map(|batch| Tile::new(batch, phase.count).ok()) {
            sources.extend(all_forward_bindings().map(|bindings| forward_source(cell, tile, phase, step, bindings)));
        }
        for tile in [1, 4, 8].into_iter().filter_map(|batch| Tile::new(batch, 1).ok()) {
            sources.extend(all_backward_bindings().map(|bindings| backward_source(cell, tile, phase, step, bindings)));
        }
    }
    sources.extend(unrolled::sources(cell, step));
    sources
}

/// See [`Strategy::Stepwise`](crate::Strategy::Stepwise).
#[derive(Debug)]
pub(super) struct Stepwise;

impl Schedule for Stepwise {
    fn check(&self, layer: &Layer<'_>, backward: bool) -> Result<()> {
        phases(layer.cell).into_iter().try_for_each(|phase| {
            let groups = match unrolled::step_groups(layer, phase, backward) {
                Some(groups) => groups,
                None => Tile::new(layer.sizes.batch, if backward { 1 } else { phase.count })?.groups(layer.sizes),
            };
            check_groups(layer.ctx.limits(), "stepwise", groups)
        })
    }

    fn forward(&self, layer: &Layer<'_>, slots: &ForwardSlots) -> Result<Vec<Segment>> {
        forward(layer, slots)
    }

    fn backward(&self, layer: &Layer<'_>, slots: &BackwardSlots) -> Result<Vec<Segment>> {
        backward(layer, slots)
    }

    fn sources(&self, cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
        if IN_BROWSER { Vec::new() } else { sources(cell, step) }
    }
}
