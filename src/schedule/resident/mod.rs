//! The whole sequence in one dispatch: one workgroup per slice of the batch and direction, weights in registers if they fit.

mod bounds;
mod layout;
mod registers;
mod reread;
mod work;

use bounds::Bounds;
use layout::ResidentLayout;
use work::Work;

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::context::{Context, IN_BROWSER};
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::program::{Dispatch, Segment, Slot};
use crate::gpu::shaders::shader;
use crate::schedule::interface::{Layer, Schedule, check_groups};
use crate::schedule::layer::{
    BackwardSlots, ChunkSizes, ForwardSlots, LayerSizes, all_backward_bindings, all_forward_bindings, step_index,
};
use crate::schedule::unrolled::AllSteps;

fn forward_source(
    cell: &ShaderCell,
    work: Work,
    layout: ResidentLayout,
    step: StepIndex,
    bindings: [Binding; 7],
) -> KernelSource {
    let source = match layout {
        ResidentLayout::Reread(layout) => KernelSource::new(
            shader!("recurrence/resident_reread_forward"),
            &layout.constants(),
            &bindings,
            step,
            ChunkSizes::WGSL,
        ),
        ResidentLayout::Registers(layout) => KernelSource::new(
            shader!("recurrence/resident_registers_forward"),
            &layout.constants(),
            &bindings,
            step,
            ChunkSizes::WGSL,
        )
        .with_file(layout.take())
        .with_text(&layout.multiply(work)),
    };
    source.with_cell(cell)
}

/// Whether weights stay in registers, forward and backward.
pub(super) fn holds_weights(ctx: &Context, cell: &ShaderCell, sizes: &LayerSizes) -> bool {
    let budget = Bounds::new(ctx);
    let held = |backward| matches!(ResidentLayout::new(budget, Work::new(cell, sizes, backward)), ResidentLayout::Registers(_));
    held(false) && held(true)
}

/// Steps of one dispatch of `flops` per workgroup.
pub(super) fn chunk(ctx: &Context, flops: u64, cell: &ShaderCell, sizes: &LayerSizes, backward: bool) -> u32 {
    let budget = Bounds::new(ctx);
    let work = Work::new(cell, sizes, backward);
    ResidentLayout::new(budget, work).chunk(budget, flops, work)
}

/// The grid of [`forward_dispatch`] or [`backward_dispatch`].
pub(super) fn groups(layer: &Layer<'_>, backward: bool) -> [u64; 3] {
    let work = Work::new(layer.cell, layer.sizes, backward);
    ResidentLayout::new(Bounds::new(layer.ctx), work).groups(layer.sizes)
}

/// The dispatch of all chunks; `sizes` says how many steps there are and how many to a chunk.
pub(super) fn forward_dispatch(ctx: &Context, cell: &ShaderCell, sizes: ChunkSizes, s: &ForwardSlots) -> Result<Dispatch> {
    let work = Work::new(cell, &sizes.layer, false);
    let layout = ResidentLayout::new(Bounds::new(ctx), work);
    let kernel = ctx.kernel(forward_source(cell, work, layout, step_index(ctx), s.bindings()));
    let sizes = ChunkSizes { group_rows: layout.rows(), ..sizes };
    Dispatch::new(ctx, kernel, &s.slots(), &sizes, layout.groups(&sizes.layer))
}

fn forward(layer: &Layer<'_>, s: &ForwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let flops = layer.settings.dispatch_flops;
    let steps = sizes.first + sizes.window_len;
    let unrolled = AllSteps::new(layer, false);
    let chunk = match &unrolled {
        Some(unrolled) => unrolled.chunk(flops),
        None => chunk(ctx, flops, cell, sizes, false),
    };
    let chunks = ChunkSizes { layer: *sizes, steps, chunk: chunk.min(sizes.window_len), ..Default::default() };
    let dispatch = match unrolled {
        Some(unrolled) => unrolled.forward(layer, chunks, s)?,
        None => forward_dispatch(ctx, cell, chunks, s)?,
    };
    Ok(vec![Segment { dispatches: vec![dispatch], steps: 0..sizes.window_len.div_ceil(chunks.chunk) }])
}

fn backward_source(
    cell: &ShaderCell,
    work: Work,
    layout: ResidentLayout,
    step: StepIndex,
    bindings: [Binding; 8],
) -> KernelSource {
    let source = match layout {
        ResidentLayout::Reread(layout) => KernelSource::new(
            shader!("recurrence/resident_reread_backward"),
            &layout.constants(),
            &bindings,
            step,
            ChunkSizes::WGSL,
        ),
        ResidentLayout::Registers(layout) => KernelSource::new(
            shader!("recurrence/resident_registers_backward"),
            &layout.constants(),
            &bindings,
            step,
            ChunkSizes::WGSL,
        )
        .with_file(layout.take())
        .with_text(&layout.multiply(work)),
    };
    source.with_cell(cell)
}

/// One step more than the sequence has carries the gradient over the edge before the first.
pub(super) fn backward_steps(sizes: &LayerSizes, d_initial_state: bool) -> u32 {
    sizes.seq_len + u32::from(d_initial_state)
}

/// The dispatch of all chunks; `sizes` says how many steps there are and how many to a chunk.
pub(super) fn backward_dispatch(ctx: &Context, cell: &ShaderCell, sizes: ChunkSizes, s: &BackwardSlots) -> Result<Dispatch> {
    let work = Work::new(cell, &sizes.layer, true);
    let layout = ResidentLayout::new(Bounds::new(ctx), work);
    let kernel = ctx.kernel(backward_source(cell, work, layout, step_index(ctx), s.bindings()));
    let sizes = ChunkSizes { group_rows: layout.rows(), ..sizes };
    Dispatch::new(ctx, kernel, &s.slots(), &sizes, layout.groups(&sizes.layer))
}

fn backward(layer: &Layer<'_>, s: &BackwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let flops = layer.settings.dispatch_flops;
    let steps = backward_steps(sizes, s.d_initial_state != Slot::EMPTY);
    let unrolled = AllSteps::new(layer, true);
    let chunk = match &unrolled {
        Some(unrolled) => unrolled.chunk(flops),
        None => chunk(ctx, flops, cell, sizes, true),
    };
    let chunks = ChunkSizes { layer: *sizes, steps, chunk: chunk.min(steps), ..Default::default() };
    let dispatch = match unrolled {
        Some(unrolled) => unrolled.backward(layer, &chunks, s)?,
        None => backward_dispatch(ctx, cell, chunks, s)?,
    };
    Ok(vec![Segment { dispatches: vec![dispatch], steps: 0..steps.div_ceil(chunks.chunk) }])
}

/// Sources of this strategy over what a device may give and a shape may ask, for validation without a device.
fn sources(cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for budget in Bounds::samples() {
        for (hidden, batch) in [(1, 1), (17, 3), (65, 65), (3000, 1)] {
            let sizes = LayerSizes { hidden, batch, directions: 1, ..Default::default() };
            let work = Work::new(cell, &sizes, false);
            let layout = ResidentLayout::new(budget, work);
            sources.extend(all_forward_bindings().map(|bindings| forward_source(cell, work, layout, step, bindings)));
            let work = Work { backward: true, ..work };
            let layout = ResidentLayout::new(budget, work);
            sources.extend(all_backward_bindings().map(|bindings| backward_source(cell, work, layout, step, bindings)));
        }
    }
    sources
}

/// See [`Strategy::Resident`](crate::Strategy::Resident).
#[derive(Debug)]
pub(super) struct Resident;

impl Schedule for Resident {
    fn check(&self, layer: &Layer<'_>, backward: bool) -> Result<()> {
        let groups = AllSteps::new(layer, backward).map_or_else(|| groups(layer, backward), |unrolled| unrolled.groups());
        check_groups(layer.ctx.limits(), "resident", groups)
    }

    fn forward(&self, layer: &Layer<'_>, slots: &ForwardSlots) -> Result<Vec<Segment>> {
        forward(layer, slots)
    }

    fn backward(&self, layer: &Layer<'_>, slots: &BackwardSlots) -> Result<Vec<Segment>> {
        backward(layer, slots)
    }

    fn takes_the_call(&self, layer: &Layer<'_>) -> bool {
        let fits = |kernel: AllSteps| kernel.chunk(layer.settings.dispatch_flops) >= layer.sizes.seq_len;
        AllSteps::new(layer, false).is_some_and(fits)
    }

    fn sources(&self, cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
        if IN_BROWSER { Vec::new() } else { sources(cell, step) }
    }
}
