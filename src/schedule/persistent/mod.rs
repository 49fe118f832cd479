//! The whole sequence in one dispatch of teams of workgroups, which keep the weights in registers and exchange what they make
//! through atomics; behind it the resident kernel, which runs only if that failed.

mod device;
mod emit;
mod forced;
mod forward;
mod layout;
mod tile;

use device::Device;
pub(crate) use forced::Forced;
use forward::Body;

use crate::cell::{Cell, has_two_phases};
use crate::error::{Error, Result};
use crate::gpu::context::{Context, WORKGROUP_BYTES};
use crate::gpu::element::Element;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::profile::DeviceProfile;
use crate::gpu::program::{Dispatch, Segment, Slot};
use crate::product::elementwise;
use crate::schedule::{
    BackwardSlots, ForwardSlots, Recurrence, StepSizes, all_backward_bindings, forward_bindings, resident, step_index,
};

/// Storage buffers of the widest kernel here, backward's: more than WebGPU's default.
pub(crate) const STORAGE_BUFFERS: u32 = 11;
/// Most bytes of exchange: past it the sequence is cut into chunks.
const EXCHANGE_BYTES: u64 = 256 << 20;

/// Threads where weights are read at every step: the same for every H that has workgroups enough.
const STREAM_UNITS: u32 = 32;
const STREAM_LANES: u32 = 8;
const STREAM_TILE: u32 = 512;

/// What a recurrence asks of the layout, forward or backward.
#[derive(Debug, Clone, Copy)]
struct Work {
    hidden: u32,
    batch: u32,
    directions: u32,
    gates: u32,
    /// Sums of one thread for each row.
    accumulators: u32,
    /// Length of the vector that each of the two phases multiplies; the second is 0 for a cell of one.
    k: [u32; 2],
    /// Whether both phases' weights lie in one array of the same length (forward) or behind each other (backward).
    shared_pieces: bool,
}

impl Work {
    fn backward(cell: &dyn Cell, sizes: &StepSizes) -> Self {
        let (gates, first) = (cell.gates().len() as u32, cell.first_phase_gates() as u32);
        let StepSizes { hidden, batch, directions, .. } = *sizes;
        let k = [first * hidden, (gates - first) * hidden];
        Self { hidden, batch, directions, gates, accumulators: 1, k, shared_pieces: false }
    }
}

/// How teams and their members are laid out; all but the counts of them goes into the shader as constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    units: u32,
    lanes: u32,
    rows: u32,
    /// Length of K that is staged in workgroup memory at a time, and how many of them each phase needs.
    tile: u32,
    pieces: [u32; 2],
    /// Weights of a thread, piece and gate (backward: piece) in registers, as blocks of unrolled loops; 0 blocks if streaming.
    blocks: u32,
    block: u32,
    held_len: u32,
    members: u32,
    teams: u32,
    team_rows: u32,
}

impl Layout {
    /// The batch is split over teams before H is split over more members than hold its weights.
    fn new(budget: DeviceProfile, bytes: u32, workgroups: u32, work: Work) -> Option<Self> {
        let share = (workgroups / work.directions).max(1);
        Self::held(budget, bytes, share, work).or_else(|| Self::streaming(budget, bytes, share, work))
    }

    fn held(budget: DeviceProfile, bytes: u32, share: u32, work: Work) -> Option<Self> {
        if work.hidden < budget.held_from {
            return None;
        }
        let capacity = (u64::from(budget.threads) * u64::from(budget.held)).min(budget.held_in_all.into());
        let fitting = (capacity / u64::from(work.gates) / u64::from(work.hidden)).min(budget.threads.into()) as u32;
        if fitting == 0 || work.hidden.div_ceil(fitting) > share {
            return None;
        }
        let fewest = work.hidden.div_ceil(fitting);
        let teams = (share / fewest).min(work.batch);
        let members = (share / teams).min(work.hidden.div_ceil(4));
        let units = work.hidden.div_ceil(members).next_multiple_of(4);
        let mut lanes = 1;
        let wanted = |lanes| work.hidden.div_ceil(lanes) > budget.k_per_lane || lanes < work.batch.div_ceil(teams).min(8);
        while units * lanes * 2 <= budget.threads && wanted(lanes) {
            lanes *= 2;
        }
        let segments = if work.shared_pieces || work.k[1] > 0 { 1 } else { work.k[0] / work.hidden };
        let whole = (segments * work.hidden).div_ceil(lanes);
        let layout = Self::tiled(budget, bytes, work, [units, lanes], teams, |pieces| {
            let blocks = whole.div_ceil(pieces).div_ceil(budget.unrolled);
            (blocks, whole.div_ceil(pieces).div_ceil(blocks))
        })?;
        (layout.held_len <= budget.held && units * lanes * layout.held_len <= budget.held_in_all).then_some(layout)
    }

    fn streaming(budget: DeviceProfile, bytes: u32, share: u32, work: Work) -> Option<Self> {
        let units = STREAM_UNITS.max(work.hidden.div_ceil(share).next_multiple_of(4));
        let mut lanes = STREAM_LANES;
        while lanes > 1 && units * lanes > budget.threads {
            lanes /= 2;
        }
        let members = work.hidden.div_ceil(units);
        if members > share || units * lanes > budget.threads {
            return None;
        }
        let teams = (share / members).min(work.batch);
        let tiled = |lanes| Self::tiled(budget, bytes, work, [units, lanes], teams, |_| (0, STREAM_TILE / lanes));
        // Fewer lanes, fewer sums in workgroup memory.
        [lanes, lanes / 2, lanes / 4, lanes / 8].into_iter().filter(|&lanes| lanes > 0).find_map(tiled)
    }

    /// As many rows, then as long a tile, as workgroup memory holds. `blocks` tells the weights of a thread for a number of
    /// pieces: their count, and the length of each.
    fn tiled(
        budget: DeviceProfile,
        bytes: u32,
        work: Work,
        [units, lanes]: [u32; 2],
        teams: u32,
        blocks: impl Fn(u32) -> (u32, u32),
    ) -> Option<Self> {
        let team_rows = work.batch.div_ceil(teams);
        let least = if team_rows > 1 { budget.least_rows } else { 1 };
        let mut rows = team_rows.next_power_of_two().max(least).min(8).min(lanes);
        let mut pieces = 1;
        loop {
            let (blocks, block) = blocks(pieces);
            let tile = blocks.max(1) * block * lanes;
            if 4 * rows * (tile.max(units) + units * lanes * work.accumulators) + 64 <= bytes {
                let pieces = work.k.map(|k| k.div_ceil(tile));
                let held = if work.shared_pieces { pieces[0] * work.gates } else { pieces[0] + pieces[1] };
                return Some(Self {
                    units,
                    lanes,
                    rows,
                    tile,
                    pieces,
                    blocks,
                    block,
                    held_len: held * blocks * block,
                    members: work.hidden.div_ceil(units),
                    teams: work.batch.div_ceil(team_rows),
                    team_rows,
                });
            }
            if rows > 1 {
                rows /= 2;
            } else if blocks > 0 && tile > lanes {
                pieces *= 2;
            } else {
                return None;
            }
        }
    }

    fn constants(self, slots: u32) -> [(&'static str, u32); 11] {
        [
            ("UNITS", self.units),
            ("LANES", self.lanes),
            ("ROWS", self.rows),
            ("TILE", self.tile),
            ("PIECES", self.pieces[0]),
            ("PIECES_2", self.pieces[1]),
            ("HELD", (self.blocks > 0).into()),
            ("BLOCKS", self.blocks.max(1)),
            ("BLOCK", self.block),
            ("HELD_LEN", self.held_len.max(1)),
            ("SLOTS", slots),
        ]
    }

    fn groups(self, directions: u32) -> [u64; 3] {
        [u64::from(self.members) * u64::from(self.teams) * u64::from(directions), 1, 1]
    }
}

/// What the workgroups of a team tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exchange {
    /// Forward: h and mid, as f32 or two to a word as f16.
    States { halves: bool },
    /// Backward: the gates' gradients, as f32 whatever the storage: f16 would lose the small ones.
    Gradients,
}

impl Exchange {
    pub fn new(backward: bool, element: Element) -> Self {
        if backward { Self::Gradients } else { Self::States { halves: element != Element::F32 } }
    }

    fn is_backward(self) -> bool {
        self == Self::Gradients
    }
}

/// Values of h, and of mid, that a step exchanges for each unit.
fn slots(cell: &dyn Cell) -> u32 {
    if has_two_phases(cell) { 2 } else { 1 }
}

/// Words of exchange of one step.
fn words_per_step(cell: &dyn Cell, sizes: &StepSizes, exchange: Exchange) -> u64 {
    let hidden = u64::from(sizes.hidden);
    // Room for f32 even where two f16 go to a word: not every layout has pairs.
    let of_row = match exchange {
        Exchange::States { .. } => u64::from(slots(cell)) * hidden,
        Exchange::Gradients => cell.gates().len() as u64 * hidden,
    };
    u64::from(sizes.directions) * u64::from(sizes.batch) * of_row
}

/// Steps of a chunk: as many as the repair may make in one dispatch, and as the exchange has room for.
fn chunk(ctx: &Context, r: Recurrence, cell: &dyn Cell, sizes: &StepSizes, exchange: Exchange) -> u32 {
    let limits = ctx.limits();
    let most = EXCHANGE_BYTES.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size / 4) / 4;
    let fitting = (most / words_per_step(cell, sizes, exchange)).clamp(1, u32::MAX.into()) as u32;
    resident::chunk(ctx, r.dispatch_flops, cell, sizes, exchange.is_backward()).min(fitting)
}

/// Refuses a device that cannot run this strategy at all.
pub(crate) fn check(ctx: &Context) -> Result<()> {
    if !ctx.has_indirect() {
        return Err(Error::Limit { limit: "indirect dispatches for strategy persistent".into(), needed: 1, actual: 0 });
    }
    let (needed, actual) = (STORAGE_BUFFERS, ctx.limits().max_storage_buffers_per_shader_stage);
    if actual < needed {
        let limit = "max_storage_buffers_per_shader_stage for strategy persistent".into();
        return Err(Error::Limit { limit, needed: needed.into(), actual: actual.into() });
    }
    Ok(())
}

/// The layout of one direction of time, or why there is none.
fn layout(ctx: &Context, r: Recurrence, work: Work) -> Result<Layout> {
    check(ctx)?;
    let bytes = ctx.limits().max_compute_workgroup_storage_size.max(WORKGROUP_BYTES);
    let budget = DeviceProfile::new(ctx);
    Layout::new(budget, bytes, r.workgroups, work).ok_or_else(|| {
        let needed = u64::from(work.hidden.div_ceil(budget.threads)) * u64::from(work.directions);
        if needed > r.workgroups.into() {
            let limit = format!("workgroups side by side for strategy persistent at hidden_size {}", work.hidden);
            return Error::Limit { limit, needed, actual: r.workgroups.into() };
        }
        let limit = format!("workgroup memory of strategy persistent for {} gates", work.gates);
        Error::Limit { limit, needed: 4 * u64::from(STREAM_TILE + STREAM_UNITS * work.gates), actual: bytes.into() }
    })
}

/// Elements of exchange that a layer needs.
pub(super) fn exchange_words(ctx: &Context, r: Recurrence, cell: &dyn Cell, sizes: &StepSizes, exchange: Exchange) -> u64 {
    let steps = chunk(ctx, r, cell, sizes, exchange).min(sizes.seq_len + u32::from(exchange.is_backward()));
    // The last is never 0.
    u64::from(steps) * words_per_step(cell, sizes, exchange) + 1
}

/// Elements of a snapshot of one layer's states.
pub(super) fn snapshot_words(cell: &dyn Cell, sizes: &StepSizes, backward: bool) -> u64 {
    let copies = cell.states() as u64 + u64::from(!backward);
    copies * u64::from(sizes.directions) * u64::from(sizes.batch) * u64::from(sizes.hidden)
}

sizes! {
    ClearSizes { words, repair_y, repair_z, copies, layer_len, block, state_at, snapshot, }
}

fn clear_source() -> KernelSource {
    let bindings = [Binding::write("exchange").of_u32(), Binding::write("control").of_u32(), Binding::write("state")];
    KernelSource::new("prologue/clear_exchange", &[], &bindings, StepIndex::None, ClearSizes::WGSL)
}

/// What makes ready for a chunk. `carry` is where backward's running gradients lie in the state, 0 forward.
fn clear(
    ctx: &Context,
    cell: &dyn Cell,
    sizes: &StepSizes,
    [state, exchange]: [Slot; 2],
    carry: u32,
    repair: &Dispatch,
) -> Result<Dispatch> {
    let layer_len = sizes.directions * sizes.batch * sizes.hidden;
    let words = (exchange.size / 4) as u32;
    let sizes = ClearSizes {
        words,
        repair_y: repair.groups[1],
        repair_z: repair.groups[2],
        copies: cell.states() as u32 + u32::from(carry == 0),
        layer_len,
        block: sizes.block,
        state_at: carry + sizes.layer * sizes.batch * sizes.hidden,
        snapshot: sizes.snapshot,
    };
    let widest = u64::from(sizes.words.max(sizes.copies * layer_len));
    Dispatch::new(ctx, ctx.kernel(clear_source())?, &[exchange, Slot::CONTROL, state], &sizes, elementwise(ctx, widest))
}

/// The buffers that the workgroups work together by.
fn together() -> [Binding; 3] {
    [Binding::write("exchange").of_atomics(), Binding::write("control").of_atomics(), Binding::write("status").of_atomics()]
}

/// The forward kernel of a cell, as the device wants it laid out.
fn forward_body<'a>(device: Device, forced: Forced, cell: &'a dyn Cell, sizes: &StepSizes, halves: bool) -> Result<Body<'a>> {
    let StepSizes { hidden, batch, directions, .. } = *sizes;
    let (gates, first_phase_gates) = (cell.gates().len() as u32, cell.first_phase_gates() as u32);
    let work = layout::Work { hidden, batch, directions, gates, first_phase_gates, backward: false };
    let layout = layout::Layout::new(device.into(), device.workgroups, work).map_err(|shortage| {
        let layout::Shortage { what, needed, has } = shortage;
        Error::Limit { limit: format!("{what} for strategy persistent at hidden_size {hidden}"), needed, actual: has }
    })?;
    let layout = forced.layout(layout, hidden, batch, device)?;
    Ok(Body::new(cell, layout, device.in_turn, halves))
}

fn forward_source(body: &Body<'_>, step: StepIndex, bindings: [Binding; 7]) -> KernelSource {
    let bindings = [&bindings[..], &together()].concat();
    let source = KernelSource::new("recurrence/persistent_forward", &[], &bindings, step, StepSizes::WGSL);
    source.with_cell(body.cell).with_text(&body.wgsl())
}

/// The sizes of both kernels, once the layout and the chunk are known.
fn shared_sizes(r: Recurrence, [members, team_rows]: [u32; 2], chunk: u32, status: Slot, sizes: StepSizes) -> StepSizes {
    StepSizes { chunk, members, team_rows, spin_limit: r.spin_limit, has_status: (status != Slot::EMPTY).into(), ..sizes }
}

pub(super) fn forward(
    ctx: &Context,
    r: Recurrence,
    cell: &dyn Cell,
    sizes: &StepSizes,
    s: &ForwardSlots,
) -> Result<Vec<Segment>> {
    check(ctx)?;
    let device = r.layout.device(Device::new(ctx, r.workgroups));
    let exchange = Exchange::new(false, s.params.element);
    let body = forward_body(device, r.layout, cell, sizes, exchange == Exchange::States { halves: true })?;
    let chunk = chunk(ctx, r, cell, sizes, exchange).min(sizes.part_len);
    let layout::Layout { members, team_rows, .. } = body.layout;
    let steps = sizes.first + sizes.part_len;
    let sizes = shared_sizes(r, [members, team_rows], chunk, s.status, StepSizes { steps, ..*sizes });
    let repair = resident::forward_dispatch(ctx, cell, &sizes, s)?.indirect();
    let clear = clear(ctx, cell, &sizes, [s.state, s.exchange], 0, &repair)?;
    let kernel = ctx.kernel(forward_source(&body, step_index(ctx), s.bindings()))?;
    let slots = [&s.slots()[..], &[s.exchange, Slot::CONTROL, s.status]].concat();
    // Nothing of it may start from a snapshot.
    let sizes = StepSizes { snapshot: 0, ..sizes };
    let groups = [body.layout.groups(sizes.directions).into(), 1, 1];
    let dispatch = Dispatch::new(ctx, kernel, &slots, &sizes, groups)?;
    Ok(vec![Segment { dispatches: vec![clear, dispatch, repair], steps: 0..sizes.part_len.div_ceil(chunk) }])
}

fn backward_source(cell: &dyn Cell, layout: Layout, step: StepIndex, bindings: [Binding; 8]) -> KernelSource {
    let bindings = [&bindings[..], &together()].concat();
    KernelSource::new("recurrence/persistent_backward", &layout.constants(slots(cell)), &bindings, step, StepSizes::WGSL)
        .with_cell(cell)
}

pub(super) fn backward(
    ctx: &Context,
    r: Recurrence,
    cell: &dyn Cell,
    sizes: &StepSizes,
    s: &BackwardSlots,
) -> Result<Vec<Segment>> {
    let layout = layout(ctx, r, Work::backward(cell, sizes))?;
    let steps = resident::backward_steps(sizes, s);
    let chunk = chunk(ctx, r, cell, sizes, Exchange::Gradients).min(steps);
    let sizes = shared_sizes(r, [layout.members, layout.team_rows], chunk, s.status, StepSizes { steps, ..*sizes });
    let repair = resident::backward_dispatch(ctx, cell, &sizes, s)?.indirect();
    let clear = clear(ctx, cell, &sizes, [s.state, s.exchange], sizes.carry, &repair)?;
    let kernel = ctx.kernel(backward_source(cell, layout, step_index(ctx), s.bindings()))?;
    let slots = [&s.slots()[..], &[s.exchange, Slot::CONTROL, s.status]].concat();
    let sizes = StepSizes { snapshot: 0, ..sizes };
    let dispatch = Dispatch::new(ctx, kernel, &slots, &sizes, layout.groups(sizes.directions))?;
    Ok(vec![Segment { dispatches: vec![clear, dispatch, repair], steps: 0..steps.div_ceil(chunk) }])
}

/// Sources of this strategy over what a device may give and a shape may ask, for validation without a device.
pub(super) fn sources(cell: &dyn Cell, step: StepIndex) -> Vec<KernelSource> {
    let mut sources = vec![clear_source()];
    let [gpu, cpu, bare] = Device::samples();
    for (device, hidden, batch, halves) in [(gpu, 512, 16, false), (gpu, 100, 3, true), (cpu, 17, 3, false), (bare, 17, 3, false)]
    {
        let sizes = StepSizes { hidden, batch, directions: 1, ..Default::default() };
        let Ok(body) = forward_body(device, Forced::default(), cell, &sizes, halves) else { continue };
        let elements = if halves { &Element::ALL[1..] } else { &Element::ALL[..1] };
        let bindings = elements.iter().map(|&element| forward_bindings([element, element.written()]));
        sources.extend(bindings.map(|bindings| forward_source(&body, step, bindings)));
    }
    for budget in DeviceProfile::samples() {
        for (hidden, batch, workgroups) in [(1, 1, 2), (17, 3, 2), (65, 65, 2), (1024, 4, 128), (3000, 1, 128)] {
            let sizes = StepSizes { hidden, batch, directions: 1, ..Default::default() };
            let layout = |work| Layout::new(budget, WORKGROUP_BYTES, workgroups, work);
            if let Some(layout) = layout(Work::backward(cell, &sizes)) {
                sources.extend(all_backward_bindings().map(|bindings| backward_source(cell, layout, step, bindings)));
            }
        }
    }
    sources
}
