//! The whole sequence in one dispatch: one workgroup per slice of the batch and direction, weights in registers if they fit.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;

use crate::cell::ShaderCell;
use crate::error::Result;
use crate::gpu::capabilities::WORKGROUP_BYTES;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex};
use crate::gpu::profile::{DeviceProfile, OperandRead};
use crate::gpu::program::{Dispatch, Segment, Slot};
use crate::schedule::interface::{Layer, Schedule};
use crate::schedule::layer::{BackwardSlots, ForwardSlots, StepSizes, all_backward_bindings, all_forward_bindings, step_index};
use crate::schedule::unrolled::AllSteps;

/// Threads and workgroup memory where weights are read at every step: the same for every H, so one pipeline serves all.
const STREAM_UNITS: u32 = 32;
const STREAM_LANES: u32 = 8;
const STREAM_EXCHANGE: u32 = 2048;

/// What a recurrence asks of the layout, forward or backward.
#[derive(Debug, Clone, Copy)]
struct Work {
    hidden: u32,
    batch: u32,
    directions: u32,
    gates: u32,
    first: u32,
    backward: bool,
}

impl Work {
    fn new(cell: &ShaderCell, sizes: &StepSizes, backward: bool) -> Self {
        let StepSizes { hidden, batch, directions, .. } = *sizes;
        let (gates, first) = (cell.gates.len() as u32, cell.first_phase_gates as u32);
        Self { hidden, batch, directions, gates, first, backward }
    }

    fn two_phases(self) -> bool {
        self.first < self.gates
    }

    /// Sums of one unit and row.
    fn accumulators(self) -> u32 {
        if self.backward { 1 } else { self.gates }
    }

    /// What each row exchanges per step in units of H: forward h, by step parity, and mid; backward the gates' gradients.
    fn vector(self) -> u32 {
        if self.backward { 2 * self.gates } else { 2 + u32::from(self.two_phases()) }
    }
}

/// A workgroup that reads the weights at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reread {
    units: u32,
    lanes: u32,
    rows: u32,
    shared: bool,
    sums: u32,
}

impl Reread {
    fn new(work: Work, rows: u32) -> Self {
        let (units, mut lanes) = (STREAM_UNITS, STREAM_LANES);
        while lanes > 1 && (units * lanes * rows * work.accumulators() + STREAM_EXCHANGE) * 4 > WORKGROUP_BYTES {
            lanes /= 2;
        }
        let shared = u64::from(rows * work.vector()) * u64::from(work.hidden) <= STREAM_EXCHANGE.into();
        Self { units, lanes, rows, shared, sums: units * lanes * rows * work.accumulators() }
    }

    fn constants(self) -> [(&'static str, u32); 6] {
        [
            ("UNITS", self.units),
            ("LANES", self.lanes),
            ("ROWS", self.rows),
            ("SHARED", self.shared.into()),
            ("EXCHANGE", if self.shared { STREAM_EXCHANGE } else { 1 }),
            ("SUMS", if self.lanes > 1 { self.sums } else { 1 }),
        ]
    }
}

/// A workgroup that keeps all weights in registers, and walks its rows in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registers {
    /// Threads that multiply by the same part of K, and units of each backward.
    group: u32,
    columns: u32,
    lanes: u32,
    rows: u32,
    /// vec4f of K that a thread multiplies, of each phase backward; forward the second is 0, as both have the same.
    quads: [u32; 2],
    /// vec4f that a thread keeps.
    held: u32,
    parity: bool,
    /// Of workgroup memory, in vec4f and in f32.
    exchange: u32,
    parts: u32,
    rolled: u32,
    take: OperandRead,
}

impl Registers {
    /// If there are threads, registers and workgroup memory enough.
    fn new(budget: DeviceProfile, work: Work, rows: u32) -> Option<Self> {
        let Work { hidden, gates, first, .. } = work;
        // Below this the weights are few, and a pipeline for every H costs more than it saves.
        if !(32..=budget.threads).contains(&hidden) {
            return None;
        }
        let columns = if work.backward { budget.columns } else { 1 };
        let group = hidden.div_ceil(columns).next_multiple_of(budget.subgroup);
        // The vec4f of each phase, and what a thread keeps of them.
        let shares = |lanes: u32| {
            let quads = |k: u32| k.div_ceil(4 * lanes);
            if work.backward {
                let quads = [quads(first * hidden), quads((gates - first) * hidden)];
                (quads, (quads[0] + quads[1]) * columns)
            } else {
                ([quads(hidden), 0], quads(hidden) * gates)
            }
        };
        let wanted = |lanes: u32| {
            let most = if group * (lanes + 1) <= 256 { budget.resident_held_by_few } else { budget.resident_held };
            (hidden * columns).div_ceil(lanes) > budget.resident_k || 4 * shares(lanes).1 > most
        };
        let mut lanes = columns;
        while wanted(lanes) && group * (lanes + 1) <= budget.threads {
            lanes += 1;
        }
        let (quads, held) = shares(lanes);
        let fits =
            group * lanes <= budget.threads && 4 * held <= budget.resident_held && group * lanes * 4 * held <= budget.held_in_all;
        // With several lanes there is a barrier between reading and writing; with two phases they are of different vectors.
        let parity = lanes == 1 && !work.two_phases();
        let vectors = match (work.backward, work.two_phases()) {
            (true, true) => quads[0] + quads[1],
            (false, true) => 2 * quads[0],
            (_, false) => quads[0] * (1 + u32::from(parity)),
        };
        // A thread may load past the end of the last block of 8.
        let exchange = vectors * lanes + 7;
        let parts = if work.backward { group * lanes * columns } else { group * (lanes - 1) * gates };
        let parts = if lanes > 1 { parts } else { 1 };
        let (rolled, take) = (budget.rolled, budget.take);
        let layout = Self { group, columns, lanes, rows, quads, held, parity, exchange, parts, rolled, take };
        (fits && (4 * exchange + parts) * 4 <= WORKGROUP_BYTES).then_some(layout)
    }

    fn constants(self) -> [(&'static str, u32); 11] {
        [
            ("GROUP", self.group),
            ("COLUMNS", self.columns),
            ("LANES", self.lanes),
            ("ROWS", 1),
            ("QUADS", self.quads[0]),
            ("QUADS_2", self.quads[1]),
            ("VECTOR", self.quads[0] * self.lanes),
            ("PARITY", self.parity.into()),
            ("EXCHANGE", self.exchange),
            ("PARTS", self.parts),
            ("HELD_LEN", self.held.max(self.rolled)),
        ]
    }

    fn take(self) -> &'static str {
        match self.take {
            OperandRead::Shuffle => "operand/by_shuffle",
            OperandRead::Vectors => "operand/by_vectors",
            OperandRead::Scalars => "operand/by_scalars",
        }
    }

    /// `multiply(phase, at)`, straight down: weights stay in registers only where every index is a constant.
    fn multiply(self, work: Work) -> String {
        let Work { gates, first, .. } = work;
        let [one, two] = self.quads;
        let mut phases = if work.backward {
            let (stride, gates) = (self.columns, 0..self.columns);
            vec![
                Phase { from: 0, stride, gates: gates.clone(), quads: one },
                Phase { from: one * stride, stride, gates, quads: two },
            ]
        } else {
            let phase = |gates| Phase { from: 0, stride: work.gates, gates, quads: one };
            vec![phase(0..first), phase(first..gates)]
        };
        phases.truncate(1 + usize::from(work.two_phases()));
        let mut wgsl = String::new();
        for (i, phase) in phases.iter().enumerate() {
            phase.write(&mut wgsl, i + 1);
        }
        let second = if work.two_phases() { "    if phase == 2u { multiply_2(at); return; }\n" } else { "" };
        wgsl + "fn multiply(phase: u32, at: u32) {\n" + second + "    multiply_1(at);\n}\n"
    }
}

/// The product of one phase: weight of gate g and quad q is `held[from + q * stride + g]`.
struct Phase {
    from: u32,
    stride: u32,
    gates: Range<u32>,
    quads: u32,
}

impl Phase {
    /// Functions for blocks of up to 8 quads, and one that calls them.
    fn write(&self, wgsl: &mut String, number: usize) {
        let blocks: Vec<_> = (0..self.quads).step_by(8).map(|at| (at, (self.quads - at).min(8))).collect();
        let lengths: BTreeSet<_> = blocks.iter().map(|block| block.1).collect();
        for length in lengths {
            let _ = writeln!(wgsl, "fn multiply_{number}_{length}(at: u32, from_: u32) {{\n    let mine = load_block(at);");
            for q in 0..length {
                let _ = writeln!(wgsl, "    let x{q} = take(mine, at, {q}u);");
                for g in self.gates.clone() {
                    let _ = writeln!(wgsl, "    sums[{g}] += held[from_ + {}u] * x{q};", q * self.stride + g);
                }
            }
            wgsl.push_str("}\n");
        }
        let _ = writeln!(wgsl, "fn multiply_{number}(at: u32) {{");
        for (at, length) in blocks {
            let _ = writeln!(wgsl, "    multiply_{number}_{length}(at + {at}u, {}u);", self.from + at * self.stride);
        }
        wgsl.push_str("}\n");
    }
}

/// How a workgroup is laid out; all but its rows goes into the shader as constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResidentLayout {
    Reread(Reread),
    Registers(Registers),
}

impl ResidentLayout {
    fn new(budget: DeviceProfile, work: Work) -> Self {
        let Work { batch, directions, .. } = work;
        let mut rows = 1;
        while rows < 8 && batch.div_ceil(2 * rows) * directions >= budget.groups {
            rows *= 2;
        }
        let held = if budget.rows_in_turn {
            Registers::new(budget, work, batch.div_ceil(budget.groups.div_ceil(directions)))
        } else if rows == 1 {
            Registers::new(budget, work, 1)
        } else {
            None
        };
        held.map_or_else(|| Self::Reread(Reread::new(work, rows)), Self::Registers)
    }

    fn rows(self) -> u32 {
        match self {
            Self::Reread(layout) => layout.rows,
            Self::Registers(layout) => layout.rows,
        }
    }

    fn groups(self, sizes: &StepSizes) -> [u64; 3] {
        [1, sizes.batch.div_ceil(self.rows()).into(), sizes.directions.into()]
    }

    /// Steps of one dispatch of `flops` per workgroup.
    fn chunk(self, budget: DeviceProfile, flops: u64, work: Work) -> u32 {
        let groups = work.batch.div_ceil(self.rows()) * work.directions;
        let hidden = u64::from(work.hidden);
        let step = 2 * u64::from(self.rows()) * u64::from(work.gates) * hidden * hidden;
        let waves = u64::from(groups.div_ceil(budget.groups));
        (flops / (step * waves)).clamp(1, u32::MAX.into()) as u32
    }
}

fn forward_source(
    cell: &ShaderCell,
    work: Work,
    layout: ResidentLayout,
    step: StepIndex,
    bindings: [Binding; 7],
) -> KernelSource {
    let source = match layout {
        ResidentLayout::Reread(layout) => {
            KernelSource::new("recurrence/resident_reread_forward", &layout.constants(), &bindings, step, StepSizes::WGSL)
        }
        ResidentLayout::Registers(layout) => {
            KernelSource::new("recurrence/resident_registers_forward", &layout.constants(), &bindings, step, StepSizes::WGSL)
                .with_file(layout.take())
                .with_text(&layout.multiply(work))
        }
    };
    source.with_cell(cell)
}

/// Whether weights stay in registers, forward and backward.
pub(super) fn holds_weights(ctx: &Context, cell: &ShaderCell, sizes: &StepSizes) -> bool {
    let budget = DeviceProfile::new(ctx);
    let held = |backward| matches!(ResidentLayout::new(budget, Work::new(cell, sizes, backward)), ResidentLayout::Registers(_));
    held(false) && held(true)
}

/// Steps of one dispatch of `flops` per workgroup.
pub(super) fn chunk(ctx: &Context, flops: u64, cell: &ShaderCell, sizes: &StepSizes, backward: bool) -> u32 {
    let budget = DeviceProfile::new(ctx);
    let work = Work::new(cell, sizes, backward);
    ResidentLayout::new(budget, work).chunk(budget, flops, work)
}

/// The dispatch of all chunks; `sizes` says how many steps there are and how many to a chunk.
pub(super) fn forward_dispatch(ctx: &Context, cell: &ShaderCell, sizes: &StepSizes, s: &ForwardSlots) -> Result<Dispatch> {
    let work = Work::new(cell, sizes, false);
    let layout = ResidentLayout::new(DeviceProfile::new(ctx), work);
    let kernel = ctx.kernel(forward_source(cell, work, layout, step_index(ctx), s.bindings()));
    let sizes = StepSizes { team_rows: layout.rows(), ..*sizes };
    Dispatch::new(ctx, kernel, &s.slots(), &sizes, layout.groups(&sizes))
}

fn forward(layer: &Layer<'_>, s: &ForwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let flops = layer.options.dispatch_flops;
    let steps = sizes.first + sizes.part_len;
    let unrolled = AllSteps::new(layer, false);
    let chunk = match &unrolled {
        Some(unrolled) => unrolled.chunk(flops),
        None => chunk(ctx, flops, cell, sizes, false),
    };
    let sizes = StepSizes { steps, chunk: chunk.min(sizes.part_len), ..*sizes };
    let dispatch = match unrolled {
        Some(unrolled) => unrolled.forward(&Layer { sizes: &sizes, ..*layer }, s)?,
        None => forward_dispatch(ctx, cell, &sizes, s)?,
    };
    Ok(vec![Segment { dispatches: vec![dispatch], steps: 0..sizes.part_len.div_ceil(sizes.chunk) }])
}

fn backward_source(
    cell: &ShaderCell,
    work: Work,
    layout: ResidentLayout,
    step: StepIndex,
    bindings: [Binding; 8],
) -> KernelSource {
    let source = match layout {
        ResidentLayout::Reread(layout) => {
            KernelSource::new("recurrence/resident_reread_backward", &layout.constants(), &bindings, step, StepSizes::WGSL)
        }
        ResidentLayout::Registers(layout) => {
            KernelSource::new("recurrence/resident_registers_backward", &layout.constants(), &bindings, step, StepSizes::WGSL)
                .with_file(layout.take())
                .with_text(&layout.multiply(work))
        }
    };
    source.with_cell(cell)
}

/// One step more than the sequence has carries the gradient over the edge before the first.
pub(super) fn backward_steps(sizes: &StepSizes, s: &BackwardSlots) -> u32 {
    sizes.seq_len + u32::from(s.d_initial_state != Slot::EMPTY)
}

/// The dispatch of all chunks; `sizes` says how many steps there are and how many to a chunk.
pub(super) fn backward_dispatch(ctx: &Context, cell: &ShaderCell, sizes: &StepSizes, s: &BackwardSlots) -> Result<Dispatch> {
    let work = Work::new(cell, sizes, true);
    let layout = ResidentLayout::new(DeviceProfile::new(ctx), work);
    let kernel = ctx.kernel(backward_source(cell, work, layout, step_index(ctx), s.bindings()));
    let sizes = StepSizes { team_rows: layout.rows(), ..*sizes };
    Dispatch::new(ctx, kernel, &s.slots(), &sizes, layout.groups(&sizes))
}

fn backward(layer: &Layer<'_>, s: &BackwardSlots) -> Result<Vec<Segment>> {
    let Layer { ctx, cell, sizes, .. } = *layer;
    let flops = layer.options.dispatch_flops;
    let steps = backward_steps(sizes, s);
    let unrolled = AllSteps::new(layer, true);
    let chunk = match &unrolled {
        Some(unrolled) => unrolled.chunk(flops),
        None => chunk(ctx, flops, cell, sizes, true),
    };
    let sizes = StepSizes { steps, chunk: chunk.min(steps), ..*sizes };
    let dispatch = match unrolled {
        Some(unrolled) => unrolled.backward(&Layer { sizes: &sizes, ..*layer }, s)?,
        None => backward_dispatch(ctx, cell, &sizes, s)?,
    };
    Ok(vec![Segment { dispatches: vec![dispatch], steps: 0..sizes.steps.div_ceil(sizes.chunk) }])
}

/// Sources of this strategy over what a device may give and a shape may ask, for validation without a device.
fn sources(cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = Vec::new();
    for budget in DeviceProfile::samples() {
        for (hidden, batch) in [(1, 1), (17, 3), (65, 65), (3000, 1)] {
            let sizes = StepSizes { hidden, batch, directions: 1, ..Default::default() };
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
    fn forward(&self, layer: &Layer<'_>, slots: &ForwardSlots) -> Result<Vec<Segment>> {
        forward(layer, slots)
    }

    fn backward(&self, layer: &Layer<'_>, slots: &BackwardSlots) -> Result<Vec<Segment>> {
        backward(layer, slots)
    }

    fn takes_the_call(&self, layer: &Layer<'_>) -> bool {
        let fits = |kernel: AllSteps| kernel.chunk(layer.options.dispatch_flops) >= layer.sizes.seq_len;
        AllSteps::new(layer, false).is_some_and(fits)
    }

    fn sources(&self, cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
        sources(cell, step)
    }
}
