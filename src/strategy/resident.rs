//! The whole sequence in one dispatch: one workgroup per slice of the batch and direction, weights in registers if they fit.

use crate::cell::Cell;
use crate::context::{Context, WORKGROUP_BYTES};
use crate::error::Result;
use crate::kernel::{Access, Binding, KernelSource, StepIndex};
use crate::program::{Dispatch, Segment, Slot};
use crate::strategy::budget::Budget;
use crate::strategy::{BackwardSlots, ForwardSlots, StepSizes, backward_bindings, forward_bindings, step_index};

/// Threads and workgroup memory where weights are read at every step: the same for every H, so one pipeline serves all.
const STREAM_UNITS: u32 = 32;
const STREAM_LANES: u32 = 8;
const STREAM_EXCHANGE: u32 = 2048;

/// How a workgroup is laid out; all of it goes into the shader as constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    units: u32,
    lanes: u32,
    rows: u32,
    gates: u32,
    /// Weights per gate that a thread keeps in registers; 0 if it reads them at every step.
    held: u32,
    shared: bool,
    /// Elements of workgroup memory.
    exchange: u32,
    sums: u32,
}

impl Layout {
    /// `vector` is what each row exchanges per step in units of H, `accumulators` the sums of one unit and row.
    fn new(budget: Budget, cell: &dyn Cell, sizes: &StepSizes, vector: u32, accumulators: u32) -> Self {
        let gates = cell.gates().len() as u32;
        let mut rows = 1;
        while rows < 8 && sizes.batch.div_ceil(2 * rows) * sizes.directions >= budget.groups {
            rows *= 2;
        }
        let held = if rows == 1 { Self::held(budget, gates, sizes.hidden, vector, accumulators) } else { None };
        held.unwrap_or_else(|| Self::streaming(gates, sizes.hidden, rows, vector, accumulators))
    }

    /// One row, every unit its own threads, all weights in registers: if there are threads and registers enough.
    fn held(budget: Budget, gates: u32, hidden: u32, vector: u32, accumulators: u32) -> Option<Self> {
        // Below this the weights are few, and a pipeline for every H costs more than it saves.
        if !(32..=budget.threads).contains(&hidden) {
            return None;
        }
        let units = hidden.next_power_of_two().min(budget.threads);
        let mut lanes = 1;
        while hidden.div_ceil(lanes) > budget.k_per_lane && units * lanes * 2 <= budget.threads {
            lanes *= 2;
        }
        let (held, exchange, sums) = (hidden.div_ceil(lanes), vector * hidden, units * lanes * accumulators);
        let fits = gates * held <= budget.held
            && units * lanes * gates * held <= budget.held_in_all
            && (exchange + sums) * 4 <= WORKGROUP_BYTES;
        fits.then_some(Self { units, lanes, rows: 1, gates, held, shared: true, exchange, sums })
    }

    fn streaming(gates: u32, hidden: u32, rows: u32, vector: u32, accumulators: u32) -> Self {
        let (units, mut lanes) = (STREAM_UNITS, STREAM_LANES);
        while lanes > 1 && (units * lanes * rows * accumulators + STREAM_EXCHANGE) * 4 > WORKGROUP_BYTES {
            lanes /= 2;
        }
        let sums = units * lanes * rows * accumulators;
        let shared = u64::from(rows * vector) * u64::from(hidden) <= STREAM_EXCHANGE.into();
        Self { units, lanes, rows, gates, held: 0, shared, exchange: if shared { STREAM_EXCHANGE } else { 1 }, sums }
    }

    /// Forward exchanges h, by step parity, and mid.
    fn forward(budget: Budget, cell: &dyn Cell, sizes: &StepSizes) -> Self {
        let two_phases = cell.first_phase_gates() < cell.gates().len();
        Self::new(budget, cell, sizes, 2 + u32::from(two_phases), cell.gates().len() as u32)
    }

    /// Backward exchanges the gates' gradients, by step parity.
    fn backward(budget: Budget, cell: &dyn Cell, sizes: &StepSizes) -> Self {
        Self::new(budget, cell, sizes, 2 * cell.gates().len() as u32, 1)
    }

    fn constants(self) -> [(&'static str, u32); 8] {
        [
            ("UNITS", self.units),
            ("LANES", self.lanes),
            ("ROWS", self.rows),
            ("HELD", self.held),
            ("HELD_LEN", (self.gates * self.held).max(1)),
            ("SHARED", self.shared.into()),
            ("EXCHANGE", self.exchange),
            ("SUMS", if self.lanes > 1 { self.sums } else { 1 }),
        ]
    }

    fn groups(self, sizes: &StepSizes) -> [u64; 3] {
        [1, sizes.batch.div_ceil(self.rows).into(), sizes.directions.into()]
    }

    /// Steps of one dispatch of `flops` per workgroup.
    fn chunk(self, budget: Budget, flops: u64, sizes: &StepSizes) -> u32 {
        let groups = sizes.batch.div_ceil(self.rows) * sizes.directions;
        let hidden = u64::from(sizes.hidden);
        let step = 2 * u64::from(self.rows * self.gates) * hidden * hidden;
        let waves = u64::from(groups.div_ceil(budget.groups));
        (flops / (step * waves)).clamp(1, u32::MAX.into()) as u32
    }
}

fn forward_source(cell: &dyn Cell, layout: Layout, step: StepIndex) -> KernelSource {
    let files = [
        StepSizes::WGSL,
        include_str!("../../shaders/states.wgsl"),
        include_str!("../../shaders/forward_cell.wgsl"),
        include_str!("../../shaders/restore.wgsl"),
        include_str!("../../shaders/sequence_forward.wgsl"),
    ];
    KernelSource::new("sequence_forward", &layout.constants(), &forward_bindings(), step, &files).with_cell(cell)
}

/// Steps of one dispatch of `flops` per workgroup.
pub(super) fn chunk(ctx: &Context, flops: u64, cell: &dyn Cell, sizes: &StepSizes, backward: bool) -> u32 {
    let budget = Budget::new(ctx);
    let layout = if backward { Layout::backward(budget, cell, sizes) } else { Layout::forward(budget, cell, sizes) };
    layout.chunk(budget, flops, sizes)
}

/// The dispatch of all chunks; `sizes` says how many steps there are and how many to a chunk.
pub(super) fn forward_dispatch(ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, s: &ForwardSlots) -> Result<Dispatch> {
    let layout = Layout::forward(Budget::new(ctx), cell, sizes);
    let kernel = ctx.kernel(forward_source(cell, layout, step_index(ctx)))?;
    Dispatch::new(ctx, kernel, &s.slots(), sizes, layout.groups(sizes))
}

pub(super) fn forward(ctx: &Context, flops: u64, cell: &dyn Cell, sizes: &StepSizes, s: &ForwardSlots) -> Result<Vec<Segment>> {
    let steps = sizes.first + sizes.part_len;
    let sizes = StepSizes { steps, chunk: chunk(ctx, flops, cell, sizes, false), ..*sizes };
    let dispatch = forward_dispatch(ctx, cell, &sizes, s)?;
    Ok(vec![Segment { dispatches: vec![dispatch], steps: 0..sizes.part_len.div_ceil(sizes.chunk) }])
}

fn backward_source(cell: &dyn Cell, layout: Layout, step: StepIndex, d_output: Access) -> KernelSource {
    let files = [
        StepSizes::WGSL,
        include_str!("../../shaders/states.wgsl"),
        include_str!("../../shaders/backward_states.wgsl"),
        include_str!("../../shaders/backward_cell.wgsl"),
        include_str!("../../shaders/restore.wgsl"),
        include_str!("../../shaders/sequence_backward.wgsl"),
    ];
    let bindings: [Binding; 8] = backward_bindings(d_output);
    KernelSource::new("sequence_backward", &layout.constants(), &bindings, step, &files).with_cell(cell)
}

/// One step more than the sequence has carries the gradient over the edge before the first.
pub(super) fn backward_steps(sizes: &StepSizes, s: &BackwardSlots) -> u32 {
    sizes.seq_len + u32::from(s.d_initial_state != Slot::EMPTY)
}

/// The dispatch of all chunks; `sizes` says how many steps there are and how many to a chunk.
pub(super) fn backward_dispatch(ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, s: &BackwardSlots) -> Result<Dispatch> {
    let layout = Layout::backward(Budget::new(ctx), cell, sizes);
    let kernel = ctx.kernel(backward_source(cell, layout, step_index(ctx), s.d_output.read_access()))?;
    Dispatch::new(ctx, kernel, &s.slots(), sizes, layout.groups(sizes))
}

pub(super) fn backward(ctx: &Context, flops: u64, cell: &dyn Cell, sizes: &StepSizes, s: &BackwardSlots) -> Result<Vec<Segment>> {
    let sizes = StepSizes { steps: backward_steps(sizes, s), chunk: chunk(ctx, flops, cell, sizes, true), ..*sizes };
    let dispatch = backward_dispatch(ctx, cell, &sizes, s)?;
    Ok(vec![Segment { dispatches: vec![dispatch], steps: 0..sizes.steps.div_ceil(sizes.chunk) }])
}

/// Sources of this strategy over what a device may give and a shape may ask, for validation without a device.
pub(super) fn sources(cell: &dyn Cell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for budget in Budget::samples() {
        for (hidden, batch) in [(1, 1), (17, 3), (65, 65), (3000, 1)] {
            let sizes = StepSizes { hidden, batch, directions: 1, ..Default::default() };
            sources.push(forward_source(cell, Layout::forward(budget, cell, &sizes), step));
            for d_output in [Access::Read, Access::ReadWrite] {
                sources.push(backward_source(cell, Layout::backward(budget, cell, &sizes), step, d_output));
            }
        }
    }
    sources
}
