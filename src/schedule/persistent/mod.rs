//! The whole sequence in one dispatch of teams of workgroups, which keep the weights in registers and exchange what they make
//! through atomics; behind it the resident kernel, which runs only if that failed.

mod backward;
mod candidates;
mod emit;
mod forced;
mod forward;
pub(super) mod layout;
mod made;
mod matrices;
mod range;
mod staging;
mod tile;
mod unroll;

pub(crate) use forced::Forced;
use forward::Body;
use layout::{Layout, Shortage, Work};
pub use made::{PersistentKernel, PersistentTarget, persistent_kernels};
use tile::Matrices;
use unroll::Counts;

use crate::cell::ShaderCell;
use crate::error::{Error, Limit, Result};
use crate::gpu::capabilities::MOST_STORAGE_BUFFERS;
use crate::gpu::context::Context;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::profile::{DeviceProfile, Vendor};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Segment, Slot};
use crate::gpu::shaders::shader;
use crate::network::sequence::Mode;
use crate::schedule::interface::{Layer, Prepared, Room, Schedule, Scratch, check_groups};
use crate::schedule::layer::{
    BackwardSlots, ChunkSizes, ForwardSlots, LayerSizes, backward_bindings, forward_bindings, step_index,
};
use crate::schedule::resident;
use crate::schedule::settings::Settings;

/// Storage buffers of the widest kernel here, backward's: more than WebGPU's default.
const STORAGE_BUFFERS: u32 = 11;
const _: () = assert!(STORAGE_BUFFERS <= MOST_STORAGE_BUFFERS);
/// Most polls of a roll call on a GPU, 2 ms: workgroups that fit start together.
const CALL_LIMIT: u32 = 2048;
/// Most bytes of exchange: past it the sequence is cut into chunks.
const EXCHANGE_BYTES: u64 = 256 << 20;

/// What the workgroups of a team tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exchange {
    /// Forward: h and mid, as f32 or two to a word as f16.
    States { halves: bool },
    /// Backward: the gates' gradients, as f32 whatever the storage: f16 would lose the small ones. Matrices take them as scaled f16.
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
fn slots(cell: &ShaderCell) -> u32 {
    if cell.has_two_phases() { 2 } else { 1 }
}

/// Words of exchange of one step.
fn words_per_step(cell: &ShaderCell, sizes: &LayerSizes, exchange: Exchange) -> u64 {
    let hidden = u64::from(sizes.hidden);
    // Room for f32 even where two f16 go to a word: not every layout has pairs.
    let of_row = match exchange {
        Exchange::States { .. } => u64::from(slots(cell)) * hidden,
        Exchange::Gradients => cell.gates.len() as u64 * hidden,
    };
    u64::from(sizes.directions) * u64::from(sizes.batch) * of_row
}

/// Steps of a chunk: as many as the repair may make in one dispatch, and as the exchange has room for.
fn chunk(ctx: &Context, r: Settings, cell: &ShaderCell, sizes: &LayerSizes, exchange: Exchange) -> u32 {
    let limits = ctx.limits();
    let most = EXCHANGE_BYTES.min(limits.max_storage_buffer_binding_size).min(limits.max_buffer_size / 4) / 4;
    // Up to seven words more: see `exchange_words`.
    let fitting = ((most - 7) / words_per_step(cell, sizes, exchange)).clamp(1, u32::MAX.into()) as u32;
    resident::chunk(ctx, r.dispatch_flops, cell, sizes, exchange.is_backward()).min(fitting)
}

/// The device that a layout is for. Kernels by cooperative matrices are for vendors whose compilers have taken them: AMD's ran for
/// minutes.
fn device(ctx: &Context, settings: Settings) -> DeviceProfile {
    let device = settings.layout.device(DeviceProfile::new(ctx, settings.workgroups));
    let asked = settings.tiles.cooperative == Some(tile::SIZE);
    DeviceProfile { matrices: asked && device.vendor == Vendor::Nvidia, ..device }
}

/// Refuses a device that cannot run this strategy at all.
pub(crate) fn check(ctx: &Context) -> Result<()> {
    if !ctx.has_indirect() {
        return Err(Error::Limit { limit: Limit::Feature("indirect dispatches for strategy persistent"), needed: 1, actual: 0 });
    }
    let (needed, actual) = (STORAGE_BUFFERS, ctx.limits().max_storage_buffers_per_shader_stage);
    if actual < needed {
        let limit = Limit::Device("max_storage_buffers_per_shader_stage", "for strategy persistent".into());
        return Err(Error::Limit { limit, needed: needed.into(), actual: actual.into() });
    }
    Ok(())
}

/// What a layer asks of the layout, in one direction of time.
fn work(cell: &ShaderCell, sizes: &LayerSizes, backward: bool, element: Element) -> Work {
    let halves = element == Element::F16;
    let LayerSizes { hidden, batch, directions, .. } = *sizes;
    let (gates, first_phase_gates) = (cell.gates.len() as u32, cell.first_phase_gates as u32);
    Work { hidden, batch, directions, gates, first_phase_gates, backward, halves }
}

/// How the device wants one direction of time laid out, or what is missing for that.
fn layout(
    device: DeviceProfile,
    forced: Forced,
    cell: &ShaderCell,
    sizes: &LayerSizes,
    backward: bool,
    element: Element,
) -> Result<Layout> {
    let work = work(cell, sizes, backward, element);
    let Work { hidden, batch, .. } = work;
    let layout =
        Layout::new(forced.profile(device, backward), device.workgroups, work).map_err(|Shortage { what, needed, has }| {
            let backward = if backward { ", backward" } else { "" };
            let limit = Limit::Layout(format!("{what} for strategy persistent at hidden_size {hidden}{backward}"));
            Error::Limit { limit, needed, actual: has }
        })?;
    forced.layout(layout, hidden, batch, device)
}

/// Elements of exchange that a layer needs.
fn exchange_words(ctx: &Context, r: Settings, cell: &ShaderCell, sizes: &LayerSizes, exchange: Exchange) -> u64 {
    let steps = chunk(ctx, r, cell, sizes, exchange).min(sizes.seq_len + u32::from(exchange.is_backward()));
    // The last four are never 0.
    (u64::from(steps) * words_per_step(cell, sizes, exchange)).next_multiple_of(4) + 4
}

/// Elements of a snapshot of one layer's states.
fn snapshot_words(cell: &ShaderCell, sizes: &LayerSizes, backward: bool) -> u64 {
    let copies = cell.states.len() as u64 + u64::from(!backward);
    copies * u64::from(sizes.directions) * u64::from(sizes.batch) * u64::from(sizes.hidden)
}

sizes! {
    TeamSizes: LayerSizes {
        /// Steps of a dispatch, and the step to end before.
        chunk, steps,
        /// Workgroups of a team, and its rows; most polls of one wait, and of the roll call.
        members, team_rows, spin_limit, call_limit, has_status,
    }
}

sizes! {
    ClearSizes { words, repair_y, repair_z, copies, layer_len, block, state_at, snapshot, }
}

fn clear_source() -> KernelSource {
    let bindings = [Binding::write("exchange").of_u32(), Binding::write("control").of_u32(), Binding::write("state")];
    KernelSource::new(shader!("prologue/clear_exchange"), &[], &bindings, StepIndex::None, ClearSizes::WGSL)
}

/// What a chunk of a layer finds done, on that room of the workspace; `repair` is the grid of its repair.
fn preparation(sizes: &LayerSizes, exchange: Slot, behind_state: u64, [_, y, z]: [u32; 3]) -> Prepared {
    let of_direction = sizes.batch * sizes.hidden;
    Prepared {
        exchange,
        repair: [y, z],
        snapshot: behind_state as u32,
        layer_at: sizes.layer * of_direction,
        layer_len: sizes.directions * of_direction,
    }
}

/// The dispatch that does it. `d_state_at` is where backward's running gradients lie in the state, 0 forward.
fn clear(
    ctx: &Context,
    cell: &ShaderCell,
    sizes: &LayerSizes,
    state: Slot,
    d_state_at: u32,
    prepared: &Prepared,
) -> Result<Dispatch> {
    let Prepared { exchange, repair: [repair_y, repair_z], snapshot, layer_at, layer_len } = *prepared;
    let sizes = ClearSizes {
        words: (exchange.size / 4) as u32,
        repair_y,
        repair_z,
        copies: cell.states.len() as u32 + u32::from(d_state_at == 0),
        layer_len,
        block: sizes.block,
        state_at: d_state_at + layer_at,
        snapshot,
    };
    let widest = u64::from(sizes.words.max(sizes.copies * layer_len));
    Dispatch::new(ctx, ctx.kernel(clear_source()), &[exchange, Slot::CONTROL, state], &sizes, elementwise(ctx, widest))
}

/// The buffers that the workgroups work together by.
fn together(layout: &Layout) -> [Binding; 3] {
    let exchange = Binding::write("exchange");
    let exchange = if layout.vectors { exchange.of_shared_quads() } else { exchange.of_atomics() };
    [exchange, Binding::write("control").of_atomics(), Binding::write("status").of_atomics()]
}

/// The forward kernel of a cell, as the device wants it laid out.
fn forward_body<'a>(
    device: DeviceProfile,
    forced: Forced,
    cell: &'a ShaderCell,
    sizes: &LayerSizes,
    element: Element,
) -> Result<Body<'a>> {
    let halves = Exchange::new(false, element) == Exchange::States { halves: true };
    let layout = layout(device, forced, cell, sizes, false, element)?;
    Ok(Body::new(cell, layout, device.in_turn, halves, layout.is_filled_by(sizes.hidden, sizes.batch)))
}

fn forward_source(body: &Body<'_>, step: StepIndex, bindings: [Binding; 7]) -> KernelSource {
    let bindings = [&bindings[..], &together(&body.layout)].concat();
    let source = KernelSource::new(shader!("recurrence/persistent_forward"), &[], &bindings, step, TeamSizes::WGSL);
    let source = source.with_cell(body.cell).with_text(&body.wgsl());
    if body.layout.matrices == Matrices::On { source.enabling("wgpu_cooperative_matrix") } else { source }
}

/// The sizes of both kernels, once the layout is known.
fn team_sizes(ctx: &Context, r: Settings, layout: &Layout, status: Slot, chunks: &ChunkSizes) -> TeamSizes {
    let (ChunkSizes { layer, chunk, steps, .. }, Layout { members, team_rows, .. }) = (*chunks, *layout);
    let call_limit = if ctx.is_software() { r.spin_limit } else { r.spin_limit.min(CALL_LIMIT) };
    let has_status = (status != Slot::EMPTY).into();
    TeamSizes { layer, chunk, steps, members, team_rows, spin_limit: r.spin_limit, call_limit, has_status }
}

fn forward(ctx: &Context, r: Settings, cell: &ShaderCell, sizes: &LayerSizes, s: &ForwardSlots) -> Result<Vec<Segment>> {
    check(ctx)?;
    let element = s.params.element;
    let (device, exchange) = (device(ctx, r), Exchange::new(false, element));
    let body = forward_body(device, r.layout, cell, sizes, element)?;
    let chunk = chunk(ctx, r, cell, sizes, exchange).min(sizes.window_len);
    let steps = sizes.first + sizes.window_len;
    let chunks = ChunkSizes { layer: *sizes, chunk, steps, snapshot: s.behind_state as u32, ..Default::default() };
    let repair = resident::forward_dispatch(ctx, cell, chunks, s)?.indirect();
    let prepared = preparation(sizes, s.exchange, s.behind_state, repair.groups);
    let clear = (!s.prepared).then(|| clear(ctx, cell, sizes, s.state, 0, &prepared)).transpose()?;
    let kernel = ctx.kernel(forward_source(&body, step_index(ctx), s.bindings()));
    let slots = [&s.slots()[..], &[s.exchange, Slot::CONTROL, s.status]].concat();
    let groups = [body.layout.groups(sizes.directions).into(), 1, 1];
    let team = team_sizes(ctx, r, &body.layout, s.status, &chunks);
    let dispatch = Dispatch::new(ctx, kernel, &slots, &team, groups)?;
    Ok(vec![Segment {
        dispatches: clear.into_iter().chain([dispatch, repair]).collect(),
        steps: 0..sizes.window_len.div_ceil(chunk),
    }])
}

fn backward_source(
    cell: &ShaderCell,
    layout: &Layout,
    in_turn: bool,
    whole: bool,
    step: StepIndex,
    bindings: [Binding; 8],
) -> KernelSource {
    let bindings = [&bindings[..], &together(layout)].concat();
    let mut source = KernelSource::new(shader!("recurrence/persistent_backward"), &[], &bindings, step, TeamSizes::WGSL);
    if layout.matrices != Matrices::Off {
        source = source.with_lines(backward::SEND_GATE, backward::SEND_PAIR).with_file(shader!("shared/gradient_pairs"));
    }
    source.wgsl = Counts::of(cell).unroll(&source.wgsl);
    if layout.vectors {
        source = source.with_lines(backward::SEND, backward::SEND_BY_FOURS);
    }
    let source = source.with_cell(cell).with_text(&backward::text(layout, in_turn, whole));
    if layout.matrices == Matrices::On { source.enabling("wgpu_cooperative_matrix") } else { source }
}

fn backward(ctx: &Context, r: Settings, cell: &ShaderCell, sizes: &LayerSizes, s: &BackwardSlots) -> Result<Vec<Segment>> {
    check(ctx)?;
    let device = device(ctx, r);
    let layout = layout(device, r.layout, cell, sizes, true, s.params.element)?;
    let steps = resident::backward_steps(sizes, s.d_initial_state != Slot::EMPTY);
    let chunk = chunk(ctx, r, cell, sizes, Exchange::Gradients).min(steps);
    let chunks = ChunkSizes { layer: *sizes, chunk, steps, snapshot: s.behind_state as u32, ..Default::default() };
    let repair = resident::backward_dispatch(ctx, cell, chunks, s)?.indirect();
    let prepared = preparation(sizes, s.exchange, s.behind_state, repair.groups);
    let clear = (!s.prepared).then(|| clear(ctx, cell, sizes, s.state, sizes.d_state_at, &prepared)).transpose()?;
    let whole = layout.is_filled_by(sizes.hidden, sizes.batch);
    let kernel = ctx.kernel(backward_source(cell, &layout, device.in_turn, whole, step_index(ctx), s.bindings()));
    let slots = [&s.slots()[..], &[s.exchange, Slot::CONTROL, s.status]].concat();
    let groups = [layout.groups(sizes.directions).into(), 1, 1];
    let team = team_sizes(ctx, r, &layout, s.status, &chunks);
    let dispatch = Dispatch::new(ctx, kernel, &slots, &team, groups)?;
    let range = (layout.matrices != Matrices::Off).then(|| range::dispatch(ctx, cell, &chunks, s)).transpose()?;
    let dispatches = clear.into_iter().chain(range).chain([dispatch, repair]).collect();
    Ok(vec![Segment { dispatches, steps: 0..steps.div_ceil(chunk) }])
}

/// Sources of this strategy over what a device may give and a shape may ask, for validation without a device.
fn sources(cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
    let d_output = |element, access| Binding::new("d_output", access).stored(element);
    let mut sources = vec![clear_source(), range::source(step, d_output(Element::F32, Access::ReadWrite))];
    sources.extend(Element::ALL.map(|element| range::source(step, d_output(element, Access::Read))));
    let [gpu, cpu, bare] = DeviceProfile::samples();
    let tensor = DeviceProfile { matrices: true, ..gpu };
    let shapes = [(gpu, 512, 16, false), (gpu, 100, 3, true), (tensor, 520, 18, true), (cpu, 17, 3, false), (bare, 17, 3, false)];
    for (device, hidden, batch, halves) in shapes {
        let sizes = LayerSizes { hidden, batch, directions: 1, ..Default::default() };
        let elements = if halves { &Element::ALL[1..] } else { &Element::ALL[..1] };
        for &element in elements {
            if let Ok(body) = forward_body(device, Forced::default(), cell, &sizes, element) {
                sources.push(forward_source(&body, step, forward_bindings([element, element.written()])));
            }
            if let Ok(layout) = layout(device, Forced::default(), cell, &sizes, true, element) {
                // `d_output` is stored as the output, or a layer's own, which is f32.
                let last = backward_bindings([element; 3], Access::Read);
                let inner = backward_bindings([element, element.written(), Element::F32], Access::ReadWrite);
                let whole = layout.is_filled_by(hidden, batch);
                let source = |bindings| backward_source(cell, &layout, device.in_turn, whole, step, bindings);
                sources.extend([last, inner].map(source));
            }
        }
    }
    sources
}

/// See [`Strategy::Persistent`](crate::Strategy::Persistent).
#[derive(Debug)]
pub(super) struct Persistent;

impl Schedule for Persistent {
    fn check_device(&self, ctx: &Context) -> Result<()> {
        check(ctx)
    }

    fn check(&self, layer: &Layer<'_>, backward: bool) -> Result<()> {
        check(layer.ctx)?;
        let Layer { ctx, settings, cell, sizes, element } = *layer;
        layout(device(ctx, *settings), settings.layout, cell, sizes, backward, element)?;
        // The repair's.
        check_groups(layer.ctx.limits(), "persistent", resident::groups(layer, backward))
    }

    /// What workgroups exchange, and a snapshot for the repair.
    fn scratch(&self, layer: &Layer<'_>, backward: bool) -> Scratch {
        let Layer { ctx, settings, cell, sizes, element } = *layer;
        let exchange = exchange_words(ctx, *settings, cell, sizes, Exchange::new(backward, element));
        Scratch { exchange, behind_state: snapshot_words(cell, sizes, backward) }
    }

    /// Where one chunk makes all steps.
    fn prepares(&self, layer: &Layer<'_>, backward: bool, room: Room) -> Option<Prepared> {
        let Layer { ctx, settings, cell, sizes, element } = *layer;
        let steps = if backward { resident::backward_steps(sizes, room.d_initial_state) } else { sizes.seq_len };
        let whole = chunk(ctx, *settings, cell, sizes, Exchange::new(backward, element)) >= steps;
        let repair = resident::groups(layer, backward).map(|groups| groups as u32);
        whole.then(|| preparation(sizes, room.exchange, room.behind_state, repair))
    }

    fn forward(&self, layer: &Layer<'_>, slots: &ForwardSlots) -> Result<Vec<Segment>> {
        forward(layer.ctx, *layer.settings, layer.cell, layer.sizes, slots)
    }

    fn backward(&self, layer: &Layer<'_>, slots: &BackwardSlots) -> Result<Vec<Segment>> {
        backward(layer.ctx, *layer.settings, layer.cell, layer.sizes, slots)
    }

    fn sources(&self, cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource> {
        sources(cell, step)
    }

    /// On Vulkan alone. What the app forces is tried alone, and on a CPU adapter the formula's layout for its threads.
    fn candidates(&self, layer: &Layer<'_>, mode: Mode) -> Vec<(u32, Forced)> {
        let Layer { ctx, settings, cell, sizes, element } = *layer;
        if ctx.adapter_info().backend != wgpu::Backend::Vulkan || self.check_device(ctx).is_err() {
            return Vec::new();
        }
        let workgroups = settings.layout.workgroups.unwrap_or_else(|| ctx.side_by_side());
        if ctx.is_software() || settings.layout != Forced::default() {
            return vec![(workgroups, settings.layout)];
        }
        let device = device(ctx, Settings { workgroups, ..*settings });
        let works = [false, true].map(|backward| work(cell, sizes, backward, element));
        let works = if mode == Mode::Training { &works[..] } else { &works[..1] };
        // Forward exchanges f16 in pairs, backward f32 whatever the storage.
        let halves = element != Element::F32 && mode != Mode::Training;
        let by_fours = device.decorations && !halves && sizes.hidden.is_multiple_of(4);
        candidates::candidates(device.into(), workgroups, works, by_fours)
    }
}
