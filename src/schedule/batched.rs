//! One product a step over all rows of the batch, then the cell on each: two dispatches a step, for batches so large that weights
//! read once for many rows are worth more than a dispatch.

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::context::{Context, IN_BROWSER};
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Segment, Slot};
use crate::gpu::shaders::shader;
use crate::network::sequence::Mode;
use crate::product::{Matrix, Product, Splits, Tiles, matmuls, splits};
use crate::schedule::interface::{Layer, Schedule, Scratch};
use crate::schedule::layer::{
    BackwardSlots, ForwardSlots, LayerSizes, Phase, all_backward_bindings, all_forward_bindings, phases, step_index,
};
use crate::schedule::persistent::Forced;

/// A slice of the state that a product binds begins at a multiple of this many elements: 256 bytes, the most that WebGPU asks for.
const ALIGNMENT: u64 = 64;
/// Fewer rows are not worth a trial when a tuning is made.
const LEAST_BATCH: usize = 3;
/// Least terms of a part of a split sum, and most parts.
const SPLIT_TERMS: u64 = 64;
const SPLITS: u64 = 8;

sizes! {
    BatchedSizes: LayerSizes {
        /// Offsets in the state: a step's product, its number of parts, and the operand of backward's.
        part, splits, sent,
    }
}

/// Where the product of a step and what backward's multiplies lie, in elements of the state.
#[derive(Debug, Clone, Copy)]
struct Parts {
    part: u64,
    splits: u64,
    sent: u64,
    end: u64,
}

impl Parts {
    /// From `start` on.
    fn new(ctx: &Context, tiles: Tiles, cell: &ShaderCell, sizes: &LayerSizes, backward: bool, start: u64) -> Self {
        let rows = u64::from(sizes.directions) * u64::from(sizes.batch);
        let (hidden, gate_rows) = (u64::from(sizes.hidden), cell.gates.len() as u64 * u64::from(sizes.hidden));
        // Forward the sum is over H and gives the gates, backward the other way round.
        let (k, n) = if backward { (gate_rows, hidden) } else { (hidden, gate_rows) };
        let most = (k / SPLIT_TERMS).clamp(1, SPLITS);
        let splits = splits(ctx, tiles, [sizes.batch.into(), n], sizes.directions.into(), most);
        let part = start.next_multiple_of(ALIGNMENT);
        let sent = (part + splits * rows * n).next_multiple_of(ALIGNMENT);
        Self { part, splits, sent, end: if backward { sent + rows * gate_rows } else { sent } }
    }

    fn part_of(&self, state: Slot, n: u64, rows: u64) -> Slot {
        Slot { offset: state.offset + 4 * self.part, size: 4 * self.splits * rows * n, ..state }
    }

    fn sizes(&self, layer: &LayerSizes) -> BatchedSizes {
        BatchedSizes { layer: *layer, part: self.part as u32, splits: self.splits as u32, sent: self.sent as u32 }
    }
}

/// Words of what forward's products multiply.
fn operand_words(sizes: &LayerSizes) -> u64 {
    u64::from(sizes.directions) * u64::from(sizes.batch) * u64::from(sizes.hidden)
}

fn constants(phase: Phase) -> [(&'static str, u32); 3] {
    [("PHASE", phase.number), ("FIRST", phase.first), ("COUNT", phase.count)]
}

/// What only sets up the first product.
const START: Phase = Phase { number: 3, first: 0, count: 0 };

fn forward_source(cell: &ShaderCell, phase: Phase, step: StepIndex, bindings: [Binding; 7], operand: Element) -> KernelSource {
    let bindings = [&bindings[..], &[Binding::write("operand").stored(operand)]].concat();
    KernelSource::new(shader!("recurrence/batched_forward"), &constants(phase), &bindings, step, BatchedSizes::WGSL)
        .with_cell(cell)
}

fn forward(layer: &Layer<'_>, s: &ForwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let tiles = layer.settings.tiles;
    let parts = Parts::new(ctx, tiles, cell, sizes, false, s.behind_state);
    let with_parts = parts.sizes(sizes);
    let [batch, hidden, directions] = [sizes.batch, sizes.hidden, sizes.directions].map(u64::from);
    let gate_rows = cell.gates.len() as u64 * hidden;
    let element = s.params.element.written();
    let operand = Slot { size: element.dtype().size_of(operand_words(sizes)), element, ..s.exchange };
    let product = |phase: Phase| Product {
        m: batch,
        n: u64::from(phase.count) * hidden,
        k: hidden,
        batches: directions,
        a: Matrix::rows(operand, hidden).stacked(batch * hidden),
        b: Matrix::rows(s.params, hidden)
            .at(u64::from(sizes.weight) + u64::from(phase.first) * hidden * hidden)
            .transposed()
            .stacked(sizes.param_stride.into()),
        c: Matrix::rows(parts.part_of(s.state, gate_rows, directions * batch), gate_rows)
            .at(u64::from(phase.first) * hidden)
            .stacked(batch * gate_rows),
        bias: None,
        accumulate: false,
        splits: Splits { count: parts.splits, stride: directions * batch * gate_rows },
    };
    let slots = [&s.slots()[..], &[operand]].concat();
    let cell_dispatch = |phase| {
        let kernel = ctx.kernel(forward_source(cell, phase, step_index(ctx), s.bindings(), element));
        Dispatch::new(ctx, kernel, &slots, &with_parts, elementwise(ctx, operand_words(sizes)))
    };
    let mut dispatches = Vec::new();
    for phase in phases(cell) {
        dispatches.extend(dispatches_of(matmuls(ctx, tiles, &product(phase))?));
        dispatches.push(cell_dispatch(phase)?);
    }
    Ok(vec![cell_dispatch(START)?.into(), Segment { dispatches, steps: 0..sizes.window_len }])
}

fn dispatches_of(segments: Vec<Segment>) -> impl Iterator<Item = Dispatch> {
    segments.into_iter().flat_map(|segment| segment.dispatches)
}

fn backward_source(cell: &ShaderCell, phase: Phase, step: StepIndex, bindings: [Binding; 8]) -> KernelSource {
    KernelSource::new(shader!("recurrence/batched_backward"), &constants(phase), &bindings, step, BatchedSizes::WGSL)
        .with_cell(cell)
}

fn backward(layer: &Layer<'_>, s: &BackwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let tiles = layer.settings.tiles;
    let parts = Parts::new(ctx, tiles, cell, sizes, true, s.behind_state);
    let with_parts = parts.sizes(sizes);
    let [batch, hidden, directions] = [sizes.batch, sizes.hidden, sizes.directions].map(u64::from);
    let (rows, gate_rows) = (directions * batch, cell.gates.len() as u64 * hidden);
    let sent = Slot { offset: s.state.offset + 4 * parts.sent, size: 4 * rows * gate_rows, ..s.state };
    let product = |phase: Phase| Product {
        m: batch,
        n: hidden,
        k: u64::from(phase.count) * hidden,
        batches: directions,
        a: Matrix::rows(sent, gate_rows).at(u64::from(phase.first) * hidden).stacked(batch * gate_rows),
        b: Matrix::rows(s.params, hidden)
            .at(u64::from(sizes.weight) + u64::from(phase.first) * hidden * hidden)
            .stacked(sizes.param_stride.into()),
        c: Matrix::rows(parts.part_of(s.state, hidden, rows), hidden).stacked(batch * hidden),
        bias: None,
        accumulate: false,
        splits: Splits { count: parts.splits, stride: rows * hidden },
    };
    let mut dispatches = Vec::new();
    let mut first = Vec::new();
    for phase in phases(cell) {
        dispatches.extend(dispatches_of(matmuls(ctx, tiles, &product(phase))?));
        let kernel = ctx.kernel(backward_source(cell, phase, step_index(ctx), s.bindings()));
        dispatches.push(Dispatch::new(ctx, kernel, &s.slots(), &with_parts, elementwise(ctx, rows * hidden))?);
        if first.is_empty() {
            first.clone_from(&dispatches);
        }
    }
    let mut segments = vec![Segment { dispatches, steps: 0..sizes.seq_len }];
    if s.d_initial_state != Slot::EMPTY {
        // One product more carries the gradient over the edge before the first step.
        segments.push(Segment { dispatches: first, steps: sizes.seq_len..sizes.seq_len + 1 });
    }
    Ok(segments)
}

/// Every source of this strategy but for its products, for validation without a device.
fn sources(cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for phase in phases(cell).into_iter().chain([START]) {
        for (element, bindings) in Element::ALL.into_iter().zip(all_forward_bindings()) {
            sources.push(forward_source(cell, phase, step, bindings, element.written()));
        }
    }
    for phase in phases(cell) {
        sources.extend(all_backward_bindings().map(|bindings| backward_source(cell, phase, step, bindings)));
    }
    sources
}

/// See [`Strategy::Batched`](crate::Strategy::Batched).
#[derive(Debug)]
pub(super) struct Batched;

impl Schedule for Batched {
    /// The operand of forward's products, and at the end of the state, wherever that is, what they make.
    fn scratch(&self, layer: &Layer<'_>, backward: bool) -> Scratch {
        let Layer { ctx, cell, sizes, .. } = *layer;
        let end = Parts::new(ctx, layer.settings.tiles, cell, sizes, backward, 0).end;
        Scratch { exchange: if backward { 0 } else { operand_words(sizes) }, behind_state: end + ALIGNMENT }
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

    fn candidates(&self, layer: &Layer<'_>, _: Mode) -> Vec<(u32, Forced)> {
        if layer.sizes.batch as usize >= LEAST_BATCH { vec![(1, layer.settings.layout)] } else { Vec::new() }
    }
}
