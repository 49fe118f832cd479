//! The dispatch that finds how large the gradients are that enter a chunk of backward, where these go between workgroups as f16.

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Dispatch, Slot, elementwise};
use crate::gpu::shaders::shader;
use crate::schedule::layer::{BackwardSlots, ChunkSizes, LayerSizes, step_index};

sizes! {
    RangeSizes: LayerSizes {
        /// Steps of a dispatch, and the step to end before.
        chunk, steps,
        states, gates,
    }
}

pub(super) fn source(step: StepIndex, d_output: Binding) -> KernelSource {
    let [d_gates, state, mask, control] = ["d_gates", "state", "mask", "control"].map(Binding::write);
    let bindings = [d_output, d_gates, state, mask.of_u32(), control.of_atomics()];
    KernelSource::new(shader!("prologue/gradient_range"), &[], &bindings, step, RangeSizes::WGSL)
}

pub(super) fn dispatch(ctx: &Context, cell: &ShaderCell, chunks: &ChunkSizes, s: &BackwardSlots) -> Result<Dispatch> {
    let ChunkSizes { layer, chunk, steps, .. } = *chunks;
    let d_output = Binding::new("d_output", s.d_output.read_access()).stored(s.d_output.element);
    let sizes = RangeSizes { layer, chunk, steps, states: cell.states.len() as u32, gates: cell.gates.len() as u32 };
    // A workgroup of 64 for each row.
    let rows = u64::from(chunk.max(sizes.states)) * u64::from(layer.directions) * u64::from(layer.batch);
    let grid = elementwise(ctx, 64 * rows);
    let slots = [s.d_output, s.d_gates, s.state, s.mask, Slot::CONTROL];
    Dispatch::new(ctx, ctx.kernel(source(step_index(ctx), d_output)), &slots, &sizes, grid)
}
