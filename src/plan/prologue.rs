//! Kernels that bring data into the form that the recurrence and the products want.

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::element::Access;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Slot};
use crate::gpu::shaders::shader;
use crate::network::dropout;
use crate::schedule::interface::Prepared;
use crate::schedule::layer::LayerSizes;

sizes! {
    PackSizes {
        seq_len, batch, states, block, state_gap,
        /// Where the final states' gradient goes in the state; 0 in forward.
        d_state_at,
        has_lengths, has_reset, has_initial, has_d_final, has_dropout,
        /// Elements of the caller's states that are a projected h: the state 0 of the recurrence starts from 0 instead.
        projected,
        /// Of the layer that runs first, where it asks for that: what is cleared, the grid of the repair, where the snapshot goes, and
        /// the layer's part of a block.
        words, repair_y, repair_z, snapshot, layer_at, layer_len,
    }
}

/// What `pack` reads and writes; absent buffers are `Slot::EMPTY`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pack {
    pub lengths: Slot,
    pub reset: Slot,
    pub initial_state: Slot,
    pub d_final_state: Slot,
    pub dropout_state: Slot,
    /// Where the reserve keeps the dropout key of this call.
    pub header: Slot,
    pub mask: Slot,
    pub state: Slot,
}

fn pack_source(clears: bool) -> KernelSource {
    let mut bindings = vec![
        Binding::read("lengths").of_u32(),
        Binding::read("reset").of_u32(),
        Binding::read("initial_state"),
        Binding::read("d_final_state"),
        Binding::write("dropout_state").of_u32(),
        Binding::write("header").of_u32(),
        Binding::write("mask").of_u32(),
        Binding::write("state"),
    ];
    let mut file = shader!("prologue/pack");
    if clears {
        bindings.extend([Binding::write("exchange").of_u32(), Binding::write("control").of_u32()]);
        file = shader!("prologue/pack_and_clear");
    }
    KernelSource::new(file, &[], &bindings, StepIndex::None, PackSizes::WGSL)
}

/// `sizes` but for the flags, which follow from the slots, and for what the layer that runs first finds prepared.
pub(crate) fn pack(ctx: &Context, p: &Pack, sizes: PackSizes, prepared: Option<Prepared>) -> Result<Dispatch> {
    let present = |slot: Slot| u32::from(slot != Slot::EMPTY);
    let sizes = PackSizes {
        has_lengths: present(p.lengths),
        has_reset: present(p.reset),
        has_initial: present(p.initial_state),
        has_d_final: present(p.d_final_state),
        has_dropout: present(p.dropout_state),
        ..sizes
    };
    let mut widest = p.mask.size.max(p.state.size) / 4;
    let mut slots = vec![p.lengths, p.reset, p.initial_state, p.d_final_state, p.dropout_state, p.header, p.mask, p.state];
    let mut sizes = sizes;
    if let Some(Prepared { exchange, repair: [repair_y, repair_z], snapshot, layer_at, layer_len }) = prepared {
        let words = exchange.size / 4;
        widest = widest.max(words);
        slots.extend([exchange, Slot::CONTROL]);
        sizes = PackSizes { words: words as u32, repair_y, repair_z, snapshot, layer_at, layer_len, ..sizes };
    }
    Dispatch::new(ctx, ctx.kernel(pack_source(prepared.is_some())), &slots, &sizes, elementwise(ctx, widest))
}

fn pack_hold_source() -> KernelSource {
    let bindings = [Binding::read("hold").of_u32(), Binding::write("mask").of_u32()];
    KernelSource::new(shader!("prologue/pack_hold"), &[], &bindings, StepIndex::None, LayerSizes::WGSL)
}

/// Brings held steps into the mask, where lengths and resets are.
pub(crate) fn pack_hold(ctx: &Context, hold: Slot, mask: Slot, sizes: &LayerSizes) -> Result<Dispatch> {
    let rows = u64::from(sizes.directions) * u64::from(sizes.batch);
    let most = ctx.limits().max_compute_workgroups_per_dimension;
    Dispatch::new(ctx, ctx.kernel(pack_hold_source()), &[hold, mask], sizes, [rows.min(most.into()), 1, 1])
}

sizes! {
    PrepareSizes { rows, columns, seq_len, batch, row_t, row_b, has_hold, has_dropout, threshold, scale, layer_key, }
}

/// Dropout of a layer's output on its way to the next layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub p: f32,
    pub layer: usize,
    /// Where the reserve keeps the key.
    pub header: Slot,
}

fn prepare_source(access: Access, [src, dst]: [Element; 2]) -> KernelSource {
    let bindings = [
        Binding::new("src", access).stored(src),
        Binding::write("dst").stored(dst),
        Binding::write("mask").of_u32(),
        Binding::read("header").of_u32(),
    ];
    KernelSource::new(shader!("prologue/prepare"), &[], &bindings, StepIndex::None, PrepareSizes::WGSL)
}

/// Copies rows with dropout, if any, and zeroes those past their length or held. `step` gives the row map.
pub(crate) fn prepare(
    ctx: &Context,
    step: &LayerSizes,
    columns: u64,
    [src, dst, mask]: [Slot; 3],
    dropout: Option<Dropout>,
) -> Result<Dispatch> {
    let mut sizes = PrepareSizes {
        rows: step.rows,
        columns: columns as u32,
        seq_len: step.seq_len,
        batch: step.batch,
        row_t: step.row_t,
        row_b: step.row_b,
        has_hold: step.has_hold,
        ..Default::default()
    };
    let mut header = Slot::EMPTY;
    if let Some(d) = dropout {
        sizes.has_dropout = 1;
        sizes.threshold = dropout::threshold(d.p);
        sizes.scale = (1.0 / (1.0 - d.p)).to_bits();
        sizes.layer_key = dropout::layer_key(d.layer);
        header = d.header;
    }
    let kernel = ctx.kernel(prepare_source(src.read_access(), [src.element, dst.element]));
    let elements = u64::from(step.rows) * columns;
    Dispatch::new(ctx, kernel, &[src, dst, mask, header], &sizes, elementwise(ctx, elements))
}

sizes! {
    PaddingSizes { rows, columns, seq_len, batch, row_t, row_b, has_hold, }
}

fn clear_padding_source(dst: Element) -> KernelSource {
    let bindings = [Binding::write("dst").stored(dst), Binding::write("mask").of_u32()];
    KernelSource::new(shader!("prologue/clear_padding"), &[], &bindings, StepIndex::None, PaddingSizes::WGSL)
}

/// Zeroes the rows past their length or held. `step` gives the row map.
pub(crate) fn clear_padding(ctx: &Context, step: &LayerSizes, columns: u64, [dst, mask]: [Slot; 2]) -> Result<Dispatch> {
    let sizes = PaddingSizes {
        rows: step.rows,
        columns: columns as u32,
        seq_len: step.seq_len,
        batch: step.batch,
        row_t: step.row_t,
        row_b: step.row_b,
        has_hold: step.has_hold,
    };
    let grid = elementwise(ctx, u64::from(step.rows) * columns);
    Dispatch::new(ctx, ctx.kernel(clear_padding_source(dst.element)), &[dst, mask], &sizes, grid)
}

sizes! {
    PackHalvesSizes { len, }
}

fn pack_halves_source() -> KernelSource {
    let bindings = [Binding::write("src"), Binding::write("dst").of_u32()];
    KernelSource::new(shader!("prologue/pack_halves"), &[], &bindings, StepIndex::None, PackHalvesSizes::WGSL)
}

/// Brings `src` in workspace, f32, to where it is wanted as packed f16.
pub(crate) fn pack_halves(ctx: &Context, src: Slot, dst: Slot) -> Result<Dispatch> {
    let sizes = PackHalvesSizes { len: src.elements() as u32 };
    let grid = elementwise(ctx, src.elements().div_ceil(2));
    Dispatch::new(ctx, ctx.kernel(pack_halves_source()), &[src, dst], &sizes, grid)
}

fn previous_source(cell: &ShaderCell, output: Element) -> KernelSource {
    let bindings = [
        Binding::write("state"),
        Binding::write("mask").of_u32(),
        Binding::read("output").stored(output),
        Binding::read("reserve"),
        Binding::write("operands"),
        Binding::write("control").of_u32(),
    ];
    KernelSource::new(shader!("prologue/previous_states"), &[], &bindings, StepIndex::None, LayerSizes::WGSL).with_cell(cell)
}

/// Writes the second operand of the weight_hh gradient: `[state, mask, output, reserve, operands]`.
pub(crate) fn previous(ctx: &Context, cell: &ShaderCell, sizes: &LayerSizes, slots: [Slot; 5]) -> Result<Dispatch> {
    let elements = u64::from(sizes.directions) * u64::from(sizes.rows) * u64::from(sizes.hidden);
    let [_, _, output, ..] = slots;
    let slots = [&slots[..], &[Slot::CONTROL]].concat();
    Dispatch::new(ctx, ctx.kernel(previous_source(cell, output.element)), &slots, sizes, elementwise(ctx, elements))
}

sizes! {
    GateRangeSizes { fours, }
}

fn gate_range_source() -> KernelSource {
    let bindings = [Binding::write("d_gates").stored_quads(Element::F32), Binding::write("control").of_atomics()];
    KernelSource::new(shader!("prologue/gate_range"), &[], &bindings, StepIndex::None, GateRangeSizes::WGSL)
}

/// Finds the largest of the first `len` gradients, a multiple of four; behind [`previous`].
pub(crate) fn gate_range(ctx: &Context, d_gates: Slot, len: u64) -> Result<Dispatch> {
    let sizes = GateRangeSizes { fours: (len / 4) as u32 };
    let slots = [d_gates, Slot::CONTROL];
    Dispatch::new(ctx, ctx.kernel(gate_range_source()), &slots, &sizes, elementwise(ctx, len / 4))
}

/// Every source that this module can ask for, for validation without a device.
pub(crate) fn sources(cell: &ShaderCell) -> Vec<KernelSource> {
    let mut sources = vec![pack_source(false), pack_source(true), pack_hold_source(), pack_halves_source(), gate_range_source()];
    for element in Element::ALL {
        sources.push(previous_source(cell, element));
        sources.push(prepare_source(Access::Read, [element, Element::F32]));
    }
    for dst in [Element::F32, Element::F16] {
        sources.push(prepare_source(Access::ReadWrite, [Element::F32, dst]));
        sources.push(clear_padding_source(dst));
    }
    sources
}

#[cfg(test)]
mod tests {
    use wgpu::BufferBinding;

    use super::*;
    use crate::gpu::program::{Bound, Role};
    use crate::product::tests::context;

    /// Whatever its sign and wherever it lies, but no infinity and no NaN; and not what lies behind.
    #[test]
    fn the_largest_gradient_is_found() {
        let ctx = context();
        for (at, largest) in [(0, -7.5f32), (511, 3e-20), (700, 65_504.0), (1023, -1e-41)] {
            let mut values = vec![0.0f32; 1028];
            (values[at], values[5], values[6], values[1024]) = (largest, f32::NAN, f32::NEG_INFINITY, 1e9);
            let mut dispatch = gate_range(&ctx, Slot::whole(Role::Input, 1028), 1024).unwrap();
            dispatch.slots[1] = Slot::whole(Role::Output, 8);
            let buffers = [ctx.upload("gradients", &values).unwrap(), ctx.upload("control", &[0.0f32; 8]).unwrap()];
            let buffer =
                |role| Some(BufferBinding { buffer: &buffers[usize::from(role == Role::Output)], offset: 0, size: None });
            let bound = Bound::new(&ctx, &[dispatch.into()], buffer).unwrap();
            let mut encoder = ctx.encoder("range");
            bound.record(&mut encoder.begin_compute_pass(&Default::default()));
            ctx.submit(encoder).unwrap();
            let [found] = pollster::block_on(ctx.download([&buffers[1]])).unwrap();
            assert_eq!(found[6].to_bits(), largest.abs().to_bits(), "{largest:e} at {at}");
        }
    }
}
