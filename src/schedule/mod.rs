//! How a recurrence becomes dispatches.

mod batched;
pub(crate) mod persistent;
mod resident;
pub(crate) mod single_step;
mod stepwise;

use std::str::FromStr;

use crate::cell::{Cell, has_two_phases};
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::element::Access;
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::{Segment, Slot};
use crate::network::config::RnnConfig;
use crate::network::sequence::SeqShape;
use crate::product::Tiles;

/// How the recurrence is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Strategy {
    /// What a [`Tuning`](crate::Tuning) found fastest; without one, or for shapes that it does not know, resident up to H = 128
    /// (on a CPU adapter wherever the weights fit into registers: an LSTM's to H = 336), else batched from B = 64 (CPU adapter: 4) on,
    /// else stepwise. A single step: stepwise.
    #[default]
    Auto,
    /// One fused dispatch per step (two for a cell of two phases). Any size, any device. In inference a single step, T = 1, of few
    /// rows has the input's product in it too, and is one dispatch in all for a small network; of many rows it is products over all
    /// of them, then the cell on each.
    Stepwise,
    /// One product a step over all rows of the batch, by the kernels of bulk products, then the cell on each row: two dispatches a
    /// step (four for a cell of two phases). Any size, any device; best for large B and H.
    Batched,
    /// All steps in one dispatch, one workgroup per slice of the batch. Any size, any device; best for small H or many rows.
    Resident,
    /// All steps in one dispatch, the hidden units spread over workgroups that exchange through memory while they run side by
    /// side. Nothing promises that they do: a run that fails is repaired on the GPU by resident, see `status` in
    /// [`BufferSizes`](crate::BufferSizes). Needs more bindings than WebGPU's default, see
    /// [`Context::wanted_limits`](crate::Context::wanted_limits), and is never chosen without a [`Tuning`](crate::Tuning).
    Persistent,
}

impl Strategy {
    /// Those that this adapter can run, for suites that try them all.
    pub fn all(ctx: &Context) -> Vec<Self> {
        let mut all = vec![Self::Stepwise, Self::Batched, Self::Resident];
        all.extend(persistent::check(ctx).is_ok().then_some(Self::Persistent));
        all
    }

    /// The name that the command uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stepwise => "stepwise",
            Self::Batched => "batched",
            Self::Resident => "resident",
            Self::Persistent => "persistent",
        }
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = [Self::Auto, Self::Stepwise, Self::Batched, Self::Resident, Self::Persistent];
        known.into_iter().find(|strategy| strategy.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "strategy",
            name: name.into(),
            known: known.map(Self::name).join(", "),
        })
    }
}

sizes! {
    /// What every kernel that walks a sequence knows of one layer.
    StepSizes {
        seq_len, batch, rows,
        /// Row of (t, b) is t·row_t + b·row_b.
        row_t, row_b,
        hidden, directions,
        /// 1 where the only direction is the reverse.
        reverse,
        /// Index of the layer's first direction among the L·D.
        layer,
        /// Elements of one state of all layers: L·D·B·H.
        block,
        has_reset, has_bias, has_reserve, has_final,
        /// Offsets in the parameters, and from one direction to the next.
        weight, bias, unit, param_stride,
        /// Offset of the running gradient in the state.
        carry,
        /// Offsets in d_rows.
        d_rh, d_unit,
        /// Forward, the window: its first step, and its length, which input_part holds.
        first, part_len,
        /// Steps of a dispatch, and the step to end before, where one dispatch makes many.
        chunk, steps,
        /// Where the state holds what a repair starts from, or batched's room; 0 if there is none.
        snapshot,
        /// Workgroups of a team, and its rows; most polls of one wait.
        members, team_rows, spin_limit, has_status,
        /// Of strategy batched, in the state: a step's product, in how many parts, and what backward's multiplies.
        part, splits, sent,
    }
}

/// What the recurrence of one layer reads and writes going forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardSlots {
    pub params: Slot,
    pub input_part: Slot,
    pub state: Slot,
    pub marks: Slot,
    pub output: Slot,
    pub reserve: Slot,
    pub final_state: Slot,
    /// What workgroups of strategy persistent tell each other, or batched's products multiply.
    pub exchange: Slot,
    /// Of strategy persistent alone.
    pub status: Slot,
}

/// What the recurrence of one layer reads and writes going backward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackwardSlots {
    pub params: Slot,
    pub d_rows: Slot,
    pub state: Slot,
    pub marks: Slot,
    pub output: Slot,
    pub reserve: Slot,
    pub d_output: Slot,
    pub d_initial_state: Slot,
    /// Of strategy persistent alone.
    pub exchange: Slot,
    pub status: Slot,
}

impl ForwardSlots {
    fn bindings(&self) -> [Binding; 7] {
        forward_bindings([self.params, self.output].map(|slot| slot.element))
    }

    /// In the order of [`forward_bindings`].
    fn slots(&self) -> [Slot; 7] {
        [self.params, self.input_part, self.state, self.marks, self.output, self.reserve, self.final_state]
    }
}

impl BackwardSlots {
    fn bindings(&self) -> [Binding; 8] {
        backward_bindings([self.params, self.output, self.d_output].map(|slot| slot.element), self.d_output.read_access())
    }

    /// In the order of [`backward_bindings`].
    fn slots(&self) -> [Slot; 8] {
        let Self { params, d_rows, state, marks, output, reserve, d_output, d_initial_state, .. } = *self;
        [params, d_rows, state, marks, output, reserve, d_output, d_initial_state]
    }
}

fn forward_bindings([params, output]: [Element; 2]) -> [Binding; 7] {
    [
        Binding::read("params").stored(params),
        Binding::write("input_part"),
        Binding::write("state"),
        Binding::write("marks").of_u32(),
        Binding::write("output").stored(output),
        Binding::write("reserve"),
        Binding::write("final_state"),
    ]
}

/// `d_output` is the app's, or for a layer below the last a part of the workspace.
fn backward_bindings([params, output, d_output]: [Element; 3], d_output_access: Access) -> [Binding; 8] {
    [
        Binding::read("params").stored(params),
        Binding::write("d_rows"),
        Binding::write("state"),
        Binding::write("marks").of_u32(),
        Binding::read("output").stored(output),
        Binding::read("reserve"),
        Binding::new("d_output", d_output_access).stored(d_output),
        Binding::write("d_initial_state"),
    ]
}

/// Every [`forward_bindings`] that a network may ask for: what it cannot write as f16 it writes as f32.
fn all_forward_bindings() -> impl Iterator<Item = [Binding; 7]> {
    Element::ALL.into_iter().map(|element| forward_bindings([element, element.written()]))
}

/// Every [`backward_bindings`]: `d_output` is stored as the output, or a layer's own, which is f32.
fn all_backward_bindings() -> impl Iterator<Item = [Binding; 8]> {
    Element::ALL.into_iter().flat_map(|element| {
        let last = backward_bindings([element; 3], Access::Read);
        [last, backward_bindings([element, element.written(), Element::F32], Access::ReadWrite)]
    })
}

/// A part of a step with a product of its own: the number that the shaders know, and its range of gates.
#[derive(Debug, Clone, Copy)]
struct Phase {
    number: u32,
    first: u32,
    count: u32,
}

/// Forward order; backward also starts with what its shader calls phase 1, but multiplies the same gates.
fn phases(cell: &dyn Cell) -> Vec<Phase> {
    let (gates, first) = (cell.gates().len() as u32, cell.first_phase_gates() as u32);
    if first == gates {
        vec![Phase { number: 0, first: 0, count: gates }]
    } else {
        vec![Phase { number: 1, first: 0, count: first }, Phase { number: 2, first, count: gates - first }]
    }
}

fn step_index(ctx: &Context) -> StepIndex {
    if ctx.immediates() { StepIndex::Immediate } else { StepIndex::DynamicOffset }
}

/// How the recurrences of a plan are scheduled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recurrence {
    /// Never `Auto`.
    pub strategy: Strategy,
    /// Most FLOPs of one workgroup in one dispatch.
    pub dispatch_flops: u64,
    /// Workgroups that strategy persistent may count on to run side by side.
    pub workgroups: u32,
    /// Most polls of one wait of strategy persistent.
    pub spin_limit: u32,
    /// Most bytes of workspace for the input's products of a layer.
    pub window_bytes: u64,
    /// Kernels of bulk products that are not left to their shapes.
    pub tiles: Tiles,
    /// Layouts of strategy persistent that are not left to the formula.
    pub layout: persistent::Forced,
}

/// Work of one workgroup in one dispatch: about 100 ms on a slow GPU.
const DISPATCH_FLOPS: u64 = 2_200_000_000;
/// H up to which resident is taken on a device of which nothing is known.
const SMALL: usize = 128;
/// B from which a product over all rows is taken on CPU adapters, as measured on llvmpipe (benches/NOTES.md), and on GPUs: a guess.
const MANY_ROWS_SOFTWARE: usize = 4;
const MANY_ROWS: usize = 64;
/// Far more than a step needs, far less than a GPU has.
const WINDOW_BYTES: u64 = 256 << 20;
/// What a GPU of some size runs side by side; a small one may not.
const WORKGROUPS: u32 = 32;
/// Polls of about a microsecond each; a software adapter's are faster, and its threads share the machine with others.
const SPIN_LIMIT: u32 = 1 << 16;
const SOFTWARE_SPIN_LIMIT: u32 = 1 << 22;

impl Recurrence {
    /// What is right before anything is known of the device.
    pub fn new(ctx: &Context) -> Self {
        let threads = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let (workgroups, spin_limit) =
            if ctx.is_software() { (threads(), SOFTWARE_SPIN_LIMIT) } else { (WORKGROUPS, SPIN_LIMIT) };
        Self {
            strategy: Strategy::Auto,
            dispatch_flops: DISPATCH_FLOPS,
            workgroups,
            spin_limit,
            window_bytes: WINDOW_BYTES,
            tiles: Tiles::default(),
            layout: persistent::Forced::default(),
        }
    }

    /// What runs for a shape: whatever is forced, else what the tuning chose, else a table.
    pub fn resolve(
        self,
        ctx: &Context,
        cell: &dyn Cell,
        config: &RnnConfig,
        shape: SeqShape,
        tuned: Option<(Strategy, u32)>,
    ) -> Self {
        if self.strategy != Strategy::Auto {
            return self;
        }
        // A single step has nothing to save dispatches on.
        if shape.seq_len == 1 {
            return Self { strategy: Strategy::Stepwise, ..self };
        }
        if let Some((strategy, workgroups)) = tuned {
            return Self { strategy, workgroups, ..self };
        }
        let sizes = StepSizes {
            hidden: config.hidden_size as u32,
            batch: shape.batch_size as u32,
            directions: config.num_directions() as u32,
            ..Default::default()
        };
        let resident = config.hidden_size <= SMALL || ctx.is_software() && resident::holds_weights(ctx, cell, &sizes);
        let many = shape.batch_size >= if ctx.is_software() { MANY_ROWS_SOFTWARE } else { MANY_ROWS };
        let strategy = match (resident, many) {
            (true, _) => Strategy::Resident,
            (false, true) => Strategy::Batched,
            (false, false) => Strategy::Stepwise,
        };
        Self { strategy, ..self }
    }

    /// The forward recurrence of one layer, all directions.
    pub fn forward(self, ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, slots: &ForwardSlots) -> Result<Vec<Segment>> {
        match self.strategy {
            Strategy::Resident => resident::forward(ctx, self.dispatch_flops, cell, sizes, slots),
            Strategy::Persistent => persistent::forward(ctx, self, cell, sizes, slots),
            Strategy::Batched => batched::forward(ctx, self.tiles, cell, sizes, slots),
            Strategy::Auto | Strategy::Stepwise => stepwise::forward(ctx, cell, sizes, slots),
        }
    }

    /// The backward recurrence of one layer, all directions: fills `d_rows`.
    pub fn backward(self, ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, slots: &BackwardSlots) -> Result<Vec<Segment>> {
        match self.strategy {
            Strategy::Resident => resident::backward(ctx, self.dispatch_flops, cell, sizes, slots),
            Strategy::Persistent => persistent::backward(ctx, self, cell, sizes, slots),
            Strategy::Batched => batched::backward(ctx, self.tiles, cell, sizes, slots),
            Strategy::Auto | Strategy::Stepwise => stepwise::backward(ctx, cell, sizes, slots),
        }
    }

    /// Elements of workspace that a strategy needs: of exchange, and at the end of the state.
    pub fn exchange(self, ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, backward: bool, element: Element) -> [u64; 2] {
        match self.strategy {
            Strategy::Persistent => {
                let words = persistent::exchange_words(ctx, self, cell, sizes, persistent::Exchange::new(backward, element));
                [words, persistent::snapshot_words(cell, sizes, backward)]
            }
            Strategy::Batched => {
                let operand = if backward { 0 } else { batched::operand_words(sizes) };
                [operand, batched::room(ctx, self.tiles, cell, sizes, backward)]
            }
            _ => [0; 2],
        }
    }
}

/// Elements of state beyond the S blocks and forward's second h: scratch of a cell of two phases.
pub(crate) fn phase_scratch(cell: &dyn Cell, directions: u64, batch: u64, hidden: u64) -> u64 {
    if has_two_phases(cell) { directions * batch * hidden * (1 + cell.first_phase_gates() as u64) } else { 0 }
}

/// Sources that the strategies can ask for, over a sample of the sizes that are baked in, for validation without a device.
pub(crate) fn sources(cell: &dyn Cell) -> Vec<KernelSource> {
    let both = [StepIndex::Immediate, StepIndex::DynamicOffset];
    both.into_iter()
        .flat_map(|step| {
            let by_steps = [stepwise::sources(cell, step), batched::sources(cell, step)];
            [by_steps.concat(), resident::sources(cell, step), persistent::sources(cell, step)].concat()
        })
        .collect()
}
