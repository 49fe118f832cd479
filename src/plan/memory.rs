//! Where everything lies in the workspace and the reserve.

use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::element::Element;
use crate::gpu::program::{Arena, Role, Slot};
use crate::network::sequence::Mode;
use crate::plan::buffers::BufferSizes;
use crate::plan::projection::ProjectionMap;
use crate::plan::prologue::PackSizes;
use crate::product::{Tiles, rounded_splits, splits};
use crate::schedule::choose::Step;
use crate::schedule::interface::{Layer, Scratch};
use crate::schedule::layer::phase_scratch;
use crate::schedule::network::{Dims, Network};
use crate::schedule::options::Scheduling;
use crate::schedule::single_step::by_products::ProductsMap;
use crate::schedule::single_step::fused::FusedMap;

impl Dims {
    pub(crate) fn pack_sizes(&self) -> PackSizes {
        PackSizes {
            seq_len: self.seq_len as u32,
            batch: self.batch as u32,
            states: self.states as u32,
            block: self.block as u32,
            ..Default::default()
        }
    }

    fn buffer_sizes(&self, network: &Network, reserve: u64, workspace: u64) -> BufferSizes {
        let (dtype, params) = (network.element.dtype(), network.layout.len() as u64);
        BufferSizes {
            params: dtype.size_of(params),
            d_params: Dtype::F32.size_of(params),
            input: dtype.size_of(self.rows * network.config.input_size as u64),
            output: dtype.size_of(self.rows * self.output),
            state: 4 * self.state,
            lengths: 4 * self.batch,
            reset: 4 * self.rows,
            hold: 4 * self.rows,
            dropout_state: 16,
            status: 16,
            reserve,
            workspace,
        }
    }
}

/// How kernels of a layer take held steps: not at all, with the output repeated, or with 0. What layers above don't read is 0.
pub(crate) fn hold_mode(network: &Network, layer: usize, has_hold: bool) -> u32 {
    match has_hold {
        false => 0,
        true if network.config.zero_output_for_mask || layer + 1 < network.config.num_layers => 2,
        true => 1,
    }
}

/// Where everything lies in the workspace and the reserve.
#[derive(Debug, Clone)]
pub(crate) struct Maps {
    pub reserve: ReserveMap,
    pub forward: ForwardMap,
    pub step: SingleStep,
    pub backward: Option<(BackwardMap, ProjectionMap)>,
    /// Of forward.
    pub projection: ProjectionMap,
}

/// How a plan for a single step of inference goes, and its workspace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SingleStep {
    /// As a sequence of one step.
    None,
    /// One dispatch a layer, or one in all.
    Fused(FusedMap),
    /// Products over all rows.
    Products(ProductsMap),
}

impl Maps {
    /// For a network at a shape, once its schedule is chosen; and the bytes of all buffers.
    pub(crate) fn new(ctx: &Context, network: &Network, dims: &Dims, plan: &Chosen<'_>) -> (Self, BufferSizes) {
        let Chosen { mode, options, step } = *plan;
        let limits = ctx.limits();
        let arena = |role| Arena::new(role, limits.min_storage_buffer_offset_alignment);
        let (mut reserve, mut workspace) = (arena(Role::Reserve), arena(Role::Workspace));
        let (mut of_step, mut of_backward) = (arena(Role::Workspace), arena(Role::Workspace));
        let sizes = dims.layer_sizes(network, 0, false);
        let layer = Layer { ctx, settings: &options.settings, cell: &network.cell, sizes: &sizes, element: network.element };
        let schedule = options.strategy.schedule();
        // The workspace holds other things too.
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size / 4);
        let window = dims.window(options.settings.window_bytes.min(most));
        let reserve_map = ReserveMap::new(network, dims, mode, &mut reserve);
        let forward = ForwardMap::new(network, dims, mode, window, schedule.scratch(&layer, false), &mut workspace);
        let projection = ProjectionMap::of_forward(network, dims, mode, &mut workspace, &mut reserve);
        let maps = Self {
            reserve: reserve_map,
            forward,
            step: match step {
                Step::Sequence => SingleStep::None,
                // It uses the sequence's product of the input.
                Step::Products => SingleStep::Products(ProductsMap::new(network, dims, &mut workspace)),
                Step::FusedNetwork => SingleStep::Fused(FusedMap::new(network, dims, true, &mut of_step)),
                Step::FusedLayers => SingleStep::Fused(FusedMap::new(network, dims, false, &mut of_step)),
            },
            backward: (mode == Mode::Training).then(|| {
                let scratch = schedule.scratch(&layer, true);
                let map = BackwardMap::new(ctx, network, dims, options.settings.tiles, scratch, &mut of_backward);
                (map, ProjectionMap::of_backward(network, dims, &projection, &mut of_backward))
            }),
            projection,
        };
        let workspace = workspace.size.max(of_backward.size).max(of_step.size);
        (maps, dims.buffer_sizes(network, reserve.size, workspace))
    }

    /// The parts of reserve and workspace that are bound as a whole.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let ForwardMap { mask, state, exchange, input_part, inner, prepared, unpacked, .. } = self.forward;
        let mut slots = match self.step {
            SingleStep::None => vec![mask, state, exchange, input_part, inner, prepared, unpacked],
            SingleStep::Products(map) => [&[input_part, unpacked][..], &map.slots()].concat(),
            SingleStep::Fused(map) => map.slots().to_vec(),
        };
        slots.extend(self.reserve.kept.iter().chain(&self.reserve.outputs));
        slots.extend(self.projection.slots());
        if let Some((map, projection)) = &self.backward {
            slots.extend(projection.slots());
            slots.extend([map.mask, map.state, map.exchange, map.d_gates, map.operands, map.d_inner, map.prepared, map.partial]);
        }
        slots
    }
}

/// What a plan was made for, as far as its memory depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen<'a> {
    pub mode: Mode,
    /// With a strategy that is not `Auto`.
    pub options: &'a Scheduling,
    pub step: Step,
}

#[derive(Debug, Clone)]
pub(crate) struct ReserveMap {
    /// Dropout key of the call, if there is dropout.
    pub header: Slot,
    /// Per layer `[D, T·B, saved + S − 1, H]`.
    pub kept: Vec<Slot>,
    /// Outputs of every layer but the last.
    pub outputs: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardMap {
    pub mask: Slot,
    pub state: Slot,
    /// Where the schedule's own room behind the states begins, in elements.
    pub behind_state: u64,
    /// Words between the workgroups of strategy persistent.
    pub exchange: Slot,
    /// x·W_ih + b_ih of one layer and window of steps: `[D, window·B, G, H]`.
    pub input_part: Slot,
    pub window: u64,
    /// Inference, both directions: outputs of every other layer below the last; the caller's output holds the others'.
    pub inner: Slot,
    /// Training with dropout: the input of a layer above the first.
    pub prepared: Slot,
    /// The output until it is packed, where no kernel can write it as it is stored.
    pub unpacked: Slot,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct BackwardMap {
    pub mask: Slot,
    pub state: Slot,
    /// As in [`ForwardMap`].
    pub behind_state: u64,
    pub exchange: Slot,
    /// Gradients of the gates of one layer, see `shared/step_backward.wgsl`.
    pub d_gates: Slot,
    /// Operands of the weight_hh gradient, see `prologue/previous_states.wgsl`.
    pub operands: Slot,
    /// Gradient of the output of the layer below.
    pub d_inner: Slot,
    /// A layer's input with dropout applied and padding zeroed; then its gradient before dropout.
    pub prepared: Slot,
    /// Partial sums of one layer's parameter gradients.
    pub partial: Slot,
}

impl ReserveMap {
    pub(crate) fn new(network: &Network, dims: &Dims, mode: Mode, arena: &mut Arena) -> Self {
        let layers = network.config.num_layers;
        if mode == Mode::Inference {
            return Self { header: Slot::EMPTY, kept: vec![Slot::EMPTY; layers], outputs: Vec::new() };
        }
        let dropout = network.config.dropout > 0.0 && layers > 1;
        let header = arena.alloc(if dropout { 4 } else { 0 });
        let values = (network.cell.saved + network.cell.states.len() - 1) as u64;
        let kept = (0..layers).map(|_| arena.alloc(dims.directions * dims.rows * values * dims.hidden)).collect();
        let element = network.element.written();
        let outputs = (1..layers).map(|_| arena.alloc_stored(dims.rows * dims.output, element)).collect();
        Self { header, kept, outputs }
    }
}

impl ForwardMap {
    pub(crate) fn new(network: &Network, dims: &Dims, mode: Mode, window: u64, extra: Scratch, arena: &mut Arena) -> Self {
        let stacked = network.config.num_layers > 1;
        let dropout = stacked && mode == Mode::Training && network.config.dropout > 0.0;
        let scratch = phase_scratch(&network.cell, dims.directions, dims.batch, dims.hidden);
        let state = (dims.states + 1) * dims.block + scratch;
        let inner = if stacked && mode == Mode::Inference && dims.directions > 1 { dims.rows * dims.output } else { 0 };
        Self {
            mask: arena.alloc(dims.mask()),
            state: arena.alloc(state + extra.behind_state),
            behind_state: state,
            exchange: arena.alloc(extra.exchange),
            input_part: arena.alloc(dims.directions * window * dims.batch * dims.gate_rows),
            window,
            inner: arena.alloc_stored(inner, network.element.written()),
            prepared: arena.alloc(if dropout { dims.rows * dims.output } else { 0 }),
            unpacked: arena.alloc(dims.unpacked(network)),
        }
    }
}

impl BackwardMap {
    pub(crate) fn new(ctx: &Context, network: &Network, dims: &Dims, tiles: Tiles, extra: Scratch, arena: &mut Arena) -> Self {
        let (cell, config) = (&network.cell, &network.config);
        let stacked = config.num_layers > 1;
        let two_phases = cell.has_two_phases();
        let units = dims.directions * dims.rows * cell.unit_rows() as u64 * dims.hidden;
        let widest = if stacked { dims.output.max(config.input_size as u64) } else { config.input_size as u64 };
        let partial = |layer| {
            let block = network.layout.block(layer, 0).len as u64;
            let count = weight_splits(ctx, network, dims, layer, tiles);
            if sums_whole(network, count) { 0 } else { block * dims.directions * count }
        };
        Self {
            mask: arena.alloc(dims.mask()),
            state: arena.alloc(2 * dims.states * dims.block + extra.behind_state),
            behind_state: 2 * dims.states * dims.block,
            exchange: arena.alloc(extra.exchange),
            d_gates: arena.alloc(dims.d_unit_offset(network) + units),
            operands: arena.alloc(dims.directions * dims.rows * dims.hidden * if two_phases { 2 } else { 1 }),
            d_inner: arena.alloc(if stacked { dims.rows * dims.output } else { 0 }),
            prepared: arena.alloc(dims.rows * widest),
            partial: arena.alloc((0..config.num_layers).map(partial).max().unwrap_or(0)),
        }
    }
}

/// Whether weight gradients go where they belong at once: sums that are not cut, but for those of a projected h, which are made of
/// several.
pub(crate) fn sums_whole(network: &Network, splits: u64) -> bool {
    splits == 1 && network.config.proj_size == 0
}

/// Least products of T·B, G·H and H whose operands are rounded to f16: smaller ones take less time than finding their range.
const LEAST_ROUNDED: u64 = 1 << 28;

/// Whether products may round the gates' gradients, and what is multiplied with them, to f16: for cooperative matrices, where all is f16
/// but what the workspace holds.
pub(crate) fn rounds(network: &Network, dims: &Dims, tiles: Tiles) -> bool {
    let halves = tiles.cooperative.is_some() && network.element == Element::F16;
    halves && dims.hidden.is_multiple_of(4) && dims.rows * dims.gate_rows * dims.hidden >= LEAST_ROUNDED
}

/// How many parts the sum over T·B of a layer's weight gradients is cut into: parts of at least 64 rows, and partial results that
/// one binding holds.
pub(crate) fn weight_splits(ctx: &Context, network: &Network, dims: &Dims, layer: usize, tiles: Tiles) -> u64 {
    let block = network.layout.block(layer, 0).len as u64 * dims.directions;
    let columns = network.config.layer_input_size(layer).min(network.config.hidden_size) as u64;
    let fitting = ctx.limits().max_storage_buffer_binding_size / (4 * block);
    let most = dims.rows.div_ceil(64).min(64).min(fitting).max(1);
    let splits = if rounds(network, dims, tiles) { rounded_splits } else { splits };
    splits(ctx, tiles, [dims.gate_rows, columns], dims.directions, most)
}
