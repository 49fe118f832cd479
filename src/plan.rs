//! Buffer sizes and the dispatch list of one network at one shape; binding them to the app's buffers; recording.

use std::sync::Arc;

use wgpu::{BufferBinding, BufferUsages, CommandEncoder, ComputePass};

use crate::cell::{Cell, unit_rows};
use crate::config::{Mode, RnnConfig, SeqShape, state_len};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::params::ParamLayout;
use crate::product::{Matrix, Product, Splits, column_sum, matmul, reduce, tiles};
use crate::program::{Arena, Bound, Role, Segment, Slot};
use crate::rows::{Dropout, Pack, PackSizes, pack, prepare, previous};
use crate::strategy::{self, BackwardSlots, ForwardSlots, StepSizes, Strategy};

/// A network without a shape: what `Rnn` and its plans share.
#[derive(Debug)]
pub(crate) struct Network {
    pub cell: Arc<dyn Cell>,
    pub config: RnnConfig,
    pub layout: ParamLayout,
}

/// Bytes of every buffer that a [`Plan`] works on. A gradient has the size of what it is the gradient of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferSizes {
    /// The flat parameter block, f32; `d_params` too.
    pub params: u64,
    /// `[T, B, I]` f32; `d_input` too.
    pub input: u64,
    /// `[T, B, D·H]` f32; `d_output` too.
    pub output: u64,
    /// `[S, L·D, B, H]` f32: initial and final states and their gradients.
    pub state: u64,
    /// `[B]` u32.
    pub lengths: u64,
    /// `[T, B]` u32.
    pub reset: u64,
    /// Four u32: seed low, seed high, call, 0.
    pub dropout_state: u64,
    /// What forward keeps for backward; 0 in inference, and where nothing need be kept.
    pub reserve: u64,
    /// Scratch of forward and backward; nothing in it outlives an encode.
    pub workspace: u64,
}

/// Sizes and dispatches of one network at one shape. Owns no tensor, submits nothing; may be bound many times.
#[derive(Debug, Clone)]
pub struct Plan {
    ctx: Context,
    network: Arc<Network>,
    shape: SeqShape,
    mode: Mode,
    strategy: Strategy,
    maps: Maps,
    sizes: BufferSizes,
}

/// Buffers of a forward pass. Each binding must hold at least the bytes of [`Plan::sizes`], start at a multiple of the
/// device's storage offset alignment, and come from a buffer with usage `STORAGE`.
#[derive(Debug, Clone)]
pub struct ForwardBuffers<'a> {
    /// The flat parameter block, f32. Read.
    pub params: BufferBinding<'a>,
    /// `[T, B, I]` f32, `[B, T, I]` if batch-first. Read.
    pub input: BufferBinding<'a>,
    /// `[T, B, D·H]` f32 likewise. Written; backward reads it again.
    pub output: BufferBinding<'a>,
    /// `[S, L·D, B, H]` f32, zeros if absent. Read.
    pub initial_state: Option<BufferBinding<'a>>,
    /// `[S, L·D, B, H]` f32. Written; may be the same binding as `initial_state`.
    pub final_state: Option<BufferBinding<'a>>,
    /// `[B]` u32, each 1..=T; larger values count as T. Read.
    pub lengths: Option<BufferBinding<'a>>,
    /// `[T, B]` u32, time-major always: non-zero cuts the edge before t. Read.
    pub reset: Option<BufferBinding<'a>>,
    /// Four u32 (seed low, seed high, call, 0): needed in training with dropout. The call is counted up by each forward.
    pub dropout_state: Option<BufferBinding<'a>>,
    /// What backward needs; must outlive it unchanged. Needed in training where `sizes().reserve` is not 0.
    pub reserve: Option<BufferBinding<'a>>,
    /// Scratch. May serve any number of plans whose work does not overlap.
    pub workspace: BufferBinding<'a>,
}

impl<'a> ForwardBuffers<'a> {
    /// The four buffers that are always needed; the others are fields to set.
    pub fn new(
        params: BufferBinding<'a>,
        input: BufferBinding<'a>,
        output: BufferBinding<'a>,
        workspace: BufferBinding<'a>,
    ) -> Self {
        Self {
            params,
            input,
            output,
            initial_state: None,
            final_state: None,
            lengths: None,
            reset: None,
            dropout_state: None,
            reserve: None,
            workspace,
        }
    }
}

/// Buffers of a backward pass.
#[derive(Debug, Clone)]
pub struct BackwardBuffers<'a> {
    /// Those of the forward pass, as it left them. `final_state` and `dropout_state` are not used.
    pub forward: ForwardBuffers<'a>,
    /// As `output`. Read; ignored past a length.
    pub d_output: BufferBinding<'a>,
    /// As `final_state`, zeros if absent. Read.
    pub d_final_state: Option<BufferBinding<'a>>,
    /// As `params`. Written.
    pub d_params: BufferBinding<'a>,
    /// As `input`. Written; leaving it out saves a product.
    pub d_input: Option<BufferBinding<'a>>,
    /// As `initial_state`. Written; leaving it out saves a dispatch.
    pub d_initial_state: Option<BufferBinding<'a>>,
    /// Adds to `d_params` instead of overwriting it. `d_input` and `d_initial_state` are always overwritten.
    pub accumulate: bool,
}

/// Which optional buffers a program works with.
#[derive(Debug, Clone, Copy)]
struct Options {
    initial_state: bool,
    final_state: bool,
    lengths: bool,
    reset: bool,
    d_final_state: bool,
    d_input: bool,
    d_initial_state: bool,
    accumulate: bool,
}

/// Where everything lies in the workspace and the reserve.
#[derive(Debug, Clone)]
struct Maps {
    reserve: ReserveMap,
    forward: ForwardMap,
    backward: Option<BackwardMap>,
}

#[derive(Debug, Clone)]
struct ReserveMap {
    /// Dropout key of the call, if there is dropout.
    header: Slot,
    /// Per layer `[D, T·B, saved + S − 1, H]`.
    kept: Vec<Slot>,
    /// Outputs of every layer but the last.
    outputs: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct ForwardMap {
    marks: Slot,
    state: Slot,
    /// x·W_ih + b_ih of one layer: `[D, T·B, G, H]`.
    input_part: Slot,
    /// Inference: the output of the layer below, overwritten by this layer's.
    inner: Slot,
    /// Training with dropout: the input of a layer above the first.
    prepared: Slot,
}

#[derive(Debug, Clone, Copy)]
struct BackwardMap {
    marks: Slot,
    state: Slot,
    /// Gradients of the gates of one layer, see `step_backward.wgsl`.
    d_rows: Slot,
    /// Operands of the weight_hh gradient, see `previous.wgsl`.
    operands: Slot,
    /// Gradient of the output of the layer below.
    d_inner: Slot,
    /// A layer's input with dropout applied and padding zeroed; then its gradient before dropout.
    prepared: Slot,
    /// Partial sums of one layer's parameter gradients.
    partial: Slot,
}

impl Plan {
    pub(crate) fn new(ctx: &Context, network: &Arc<Network>, shape: SeqShape, mode: Mode, strategy: Strategy) -> Result<Self> {
        shape.validate()?;
        let dims = Dims::new(network, shape)?;
        let alignment = ctx.limits().min_storage_buffer_offset_alignment;
        let mut reserve = Arena::new(Role::Reserve, alignment);
        let mut workspace = Arena::new(Role::Workspace, alignment);
        let reserve_map = ReserveMap::new(network, &dims, mode, &mut reserve);
        let forward = ForwardMap::new(network, &dims, mode, &mut workspace);
        let mut backward_workspace = Arena::new(Role::Workspace, alignment);
        let backward = (mode == Mode::Training).then(|| BackwardMap::new(ctx, network, &dims, &mut backward_workspace));
        let sizes = BufferSizes {
            params: 4 * network.layout.len() as u64,
            input: 4 * dims.rows * network.config.input_size as u64,
            output: 4 * dims.rows * dims.output,
            state: 4 * dims.block * dims.states,
            lengths: 4 * dims.batch,
            reset: 4 * dims.rows,
            dropout_state: 16,
            reserve: reserve.size,
            workspace: workspace.size.max(backward_workspace.size),
        };
        let has = ctx.limits().max_buffer_size;
        for needed in [sizes.params, sizes.input, sizes.output, sizes.state, sizes.reserve, sizes.workspace] {
            if needed > has {
                return Err(Error::Limit { limit: "max_buffer_size", needed, actual: has });
            }
        }
        let maps = Maps { reserve: reserve_map, forward, backward };
        let plan = Self { ctx: ctx.clone(), network: network.clone(), shape, mode, strategy: strategy.resolve(), maps, sizes };
        // Building the widest programs once proves every size against the device's limits and compiles every pipeline.
        let all = Options {
            initial_state: true,
            final_state: true,
            lengths: true,
            reset: true,
            d_final_state: true,
            d_input: true,
            d_initial_state: true,
            accumulate: true,
        };
        plan.forward_program(all)?;
        if mode == Mode::Training {
            plan.backward_program(all)?;
        }
        Ok(plan)
    }

    /// Bytes that each buffer must hold.
    pub fn sizes(&self) -> BufferSizes {
        self.sizes
    }

    pub fn shape(&self) -> SeqShape {
        self.shape
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The strategy that runs, never `Auto`.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Binds a forward pass.
    pub fn bind_forward(&self, buffers: &ForwardBuffers<'_>) -> Result<Forward> {
        self.check_forward(buffers)?;
        let options = Options { final_state: buffers.final_state.is_some(), ..Options::of_forward(buffers) };
        let bound = Bound::new(&self.ctx, &self.forward_program(options)?, |role| forward_buffer(buffers, role))?;
        Ok(Forward { bound: Arc::new(bound) })
    }

    /// Binds a backward pass; the plan must be for [`Mode::Training`].
    pub fn bind_backward(&self, buffers: &BackwardBuffers<'_>) -> Result<Backward> {
        let forward = &buffers.forward;
        self.check_forward(&ForwardBuffers { final_state: None, dropout_state: None, ..forward.clone() })?;
        let sizes = &self.sizes;
        self.check("d_output", &buffers.d_output, sizes.output)?;
        self.check("d_params", &buffers.d_params, sizes.params)?;
        self.check_optional("d_final_state", &buffers.d_final_state, sizes.state)?;
        self.check_optional("d_input", &buffers.d_input, sizes.input)?;
        self.check_optional("d_initial_state", &buffers.d_initial_state, sizes.state)?;
        let options = Options {
            d_final_state: buffers.d_final_state.is_some(),
            d_input: buffers.d_input.is_some(),
            d_initial_state: buffers.d_initial_state.is_some(),
            accumulate: buffers.accumulate,
            ..Options::of_forward(forward)
        };
        let buffer = |role| match role {
            Role::DOutput => Some(buffers.d_output.clone()),
            Role::DFinalState => buffers.d_final_state.clone(),
            Role::DParams => Some(buffers.d_params.clone()),
            Role::DInput => buffers.d_input.clone(),
            Role::DInitialState => buffers.d_initial_state.clone(),
            role => forward_buffer(forward, role),
        };
        let bound = Bound::new(&self.ctx, &self.backward_program(options)?, buffer)?;
        Ok(Backward { bound: Arc::new(bound) })
    }

    fn check_forward(&self, buffers: &ForwardBuffers<'_>) -> Result<()> {
        let sizes = &self.sizes;
        self.check("params", &buffers.params, sizes.params)?;
        self.check("input", &buffers.input, sizes.input)?;
        self.check("output", &buffers.output, sizes.output)?;
        self.check("workspace", &buffers.workspace, sizes.workspace)?;
        self.check_optional("initial_state", &buffers.initial_state, sizes.state)?;
        self.check_optional("final_state", &buffers.final_state, sizes.state)?;
        self.check_optional("lengths", &buffers.lengths, sizes.lengths)?;
        self.check_optional("reset", &buffers.reset, sizes.reset)?;
        self.check_optional("dropout_state", &buffers.dropout_state, sizes.dropout_state)?;
        if sizes.reserve > 0 {
            let reason = "training keeps values for backward in it";
            let reserve = buffers.reserve.as_ref().ok_or(Error::BufferMissing { name: "reserve", reason })?;
            self.check("reserve", reserve, sizes.reserve)?;
        }
        Ok(())
    }

    fn check_optional(&self, name: &'static str, binding: &Option<BufferBinding<'_>>, needed: u64) -> Result<()> {
        binding.as_ref().map_or(Ok(()), |binding| self.check(name, binding, needed))
    }

    fn check(&self, name: &'static str, binding: &BufferBinding<'_>, needed: u64) -> Result<()> {
        let usage = binding.buffer.usage();
        if !usage.contains(BufferUsages::STORAGE) {
            return Err(Error::BufferUsage { name, needed: BufferUsages::STORAGE, actual: usage });
        }
        let alignment = u64::from(self.ctx.limits().min_storage_buffer_offset_alignment);
        if !binding.offset.is_multiple_of(alignment) {
            return Err(Error::BufferOffset { name, offset: binding.offset, alignment });
        }
        let rest = binding.buffer.size().saturating_sub(binding.offset);
        let actual = binding.size.map_or(rest, |size| size.get().min(rest));
        if actual < needed { Err(Error::BufferSize { name, needed, actual }) } else { Ok(()) }
    }

    fn forward_program(&self, options: Options) -> Result<Vec<Segment>> {
        let (ctx, network, dims) = (&self.ctx, &*self.network, Dims::new(&self.network, self.shape)?);
        let (map, reserve) = (&self.maps.forward, &self.maps.reserve);
        let training = self.mode == Mode::Training;
        let dropout = training && reserve.header != Slot::EMPTY;
        let user = UserSlots::new(&self.sizes, options);
        let first = Pack {
            lengths: user.lengths,
            reset: user.reset,
            initial_state: user.initial_state,
            d_final_state: Slot::EMPTY,
            dropout_state: Slot::whole(Role::DropoutState, 4).only_if(dropout),
            header: reserve.header,
            marks: map.marks,
            state: map.state,
        };
        let mut program = vec![pack(ctx, &first, PackSizes { state_gap: dims.block as u32, ..dims.pack_sizes() })?.into()];
        let last = network.config.num_layers - 1;
        for layer in 0..=last {
            let below = if layer == 0 {
                user.input
            } else if training {
                reserve.outputs[layer - 1]
            } else {
                map.inner
            };
            let mut sizes = dims.step_sizes(network, layer, options.reset);
            sizes.has_reserve = training.into();
            sizes.has_final = options.final_state.into();
            let mut input = below;
            if dropout && layer > 0 {
                input = map.prepared;
                let dropout = Dropout { p: network.config.dropout, layer: layer - 1, header: reserve.header };
                program.push(prepare(ctx, &sizes, dims.output, [below, input, map.marks], Some(dropout))?.into());
            }
            program.push(self.input_product(&dims, layer, input)?);
            let output = if layer == last {
                user.output
            } else if training {
                reserve.outputs[layer]
            } else {
                map.inner
            };
            let slots = ForwardSlots {
                params: user.params,
                input_part: map.input_part,
                state: map.state,
                marks: map.marks,
                output,
                reserve: reserve.kept[layer],
                final_state: user.final_state,
            };
            program.extend(strategy::forward(ctx, self.strategy, &*network.cell, &sizes, &slots)?);
        }
        Ok(program)
    }

    /// x·W_ihᵀ + b_ih for all steps and directions of a layer.
    fn input_product(&self, dims: &Dims, layer: usize, input: Slot) -> Result<Segment> {
        let network = &*self.network;
        let params = Slot::whole(Role::Params, network.layout.len() as u64);
        let columns = network.config.layer_input_size(layer) as u64;
        let block = network.layout.block(layer, 0);
        let product = Product {
            m: dims.rows,
            n: dims.gate_rows,
            k: columns,
            batches: dims.directions,
            a: Matrix::rows(input, columns),
            b: Matrix::rows(params, columns).at(block.weight_ih as u64).transposed().batched(block.len as u64),
            c: Matrix::rows(self.maps.forward.input_part, dims.gate_rows).batched(dims.rows * dims.gate_rows),
            bias: block.bias.map(|offset| offset as u64),
            accumulate: false,
            splits: Splits::NONE,
        };
        Ok(matmul(&self.ctx, &product)?.into())
    }

    fn backward_program(&self, options: Options) -> Result<Vec<Segment>> {
        let missing = || Error::Config("backward needs a plan for Mode::Training, this one is for inference".into());
        let map = self.maps.backward.as_ref().ok_or_else(missing)?;
        let (ctx, network, dims) = (&self.ctx, &*self.network, Dims::new(&self.network, self.shape)?);
        let reserve = &self.maps.reserve;
        let user = UserSlots::new(&self.sizes, options);
        let first = Pack {
            lengths: user.lengths,
            reset: user.reset,
            initial_state: user.initial_state,
            d_final_state: user.d_final_state,
            dropout_state: Slot::EMPTY,
            header: Slot::EMPTY,
            marks: map.marks,
            state: map.state,
        };
        let carry = (dims.states * dims.block) as u32;
        let mut program = vec![pack(ctx, &first, PackSizes { carry, ..dims.pack_sizes() })?.into()];
        let last = network.config.num_layers - 1;
        for layer in (0..=last).rev() {
            let mut sizes = dims.step_sizes(network, layer, options.reset);
            sizes.carry = carry;
            sizes.d_rh = if network.cell.split_gradients() { dims.gate_elements() as u32 } else { 0 };
            sizes.d_unit = dims.d_unit_offset(network) as u32;
            let output = if layer == last { user.output } else { reserve.outputs[layer] };
            let slots = BackwardSlots {
                params: user.params,
                d_rows: map.d_rows,
                state: map.state,
                marks: map.marks,
                output,
                reserve: reserve.kept[layer],
                d_output: if layer == last { user.d_output } else { map.d_inner },
                d_initial_state: user.d_initial_state,
            };
            program.extend(strategy::backward(ctx, self.strategy, &*network.cell, &sizes, &slots)?);
            let around = [map.state, map.marks, output, reserve.kept[layer], map.operands];
            program.push(previous(ctx, &*network.cell, &sizes, around)?.into());
            let input = if layer == 0 { user.input } else { reserve.outputs[layer - 1] };
            self.weight_gradients(&mut program, &dims, map, &sizes, layer, input, options)?;
            self.input_gradient(&mut program, &dims, map, &sizes, layer, options)?;
        }
        Ok(program)
    }

    /// Dropout in front of a layer, in training.
    fn dropout_below(&self, layer: usize) -> Option<Dropout> {
        let header = self.maps.reserve.header;
        let p = self.network.config.dropout;
        (layer > 0 && header != Slot::EMPTY).then(|| Dropout { p, layer: layer - 1, header })
    }

    /// All parameter gradients of a layer: partial sums in the layout of its parameter block, then their sum.
    #[expect(clippy::too_many_arguments, reason = "one step of backward_program, with its state")]
    fn weight_gradients(
        &self,
        program: &mut Vec<Segment>,
        dims: &Dims,
        map: &BackwardMap,
        sizes: &StepSizes,
        layer: usize,
        below: Slot,
        options: Options,
    ) -> Result<()> {
        let (ctx, network) = (&self.ctx, &*self.network);
        let cell = &*network.cell;
        let columns = network.config.layer_input_size(layer) as u64;
        let mut input = below;
        let dropout = self.dropout_below(layer);
        // Padding of the caller's input may hold anything, even NaN, and 0·NaN is NaN.
        if dropout.is_some() || (layer == 0 && options.lengths) {
            input = map.prepared;
            program.push(prepare(ctx, sizes, columns, [below, input, map.marks], dropout)?.into());
        }
        let block = network.layout.block(layer, 0);
        let len = block.len as u64 * dims.directions;
        let count = weight_splits(ctx, network, dims, layer);
        let splits = Splits { count, stride: len };
        let partial = |offset: usize, columns: u64| {
            let slot = Slot { size: 4 * len * count, ..map.partial };
            Matrix::rows(slot, columns).at((offset - network.layout.block(layer, 0).weight_ih) as u64).batched(block.len as u64)
        };
        let d_gates = |offset: u64| Matrix::rows(map.d_rows, dims.gate_rows).at(offset).batched(dims.rows * dims.gate_rows);
        let product = |m: u64, n: u64, a: Matrix, b: Matrix, c: Matrix| Product {
            m,
            n,
            k: dims.rows,
            batches: dims.directions,
            a: a.transposed(),
            b,
            c,
            bias: None,
            accumulate: false,
            splits,
        };
        let d_rh = u64::from(sizes.d_rh);
        let weight_ih = partial(block.weight_ih, columns);
        program.push(matmul(ctx, &product(dims.gate_rows, columns, d_gates(0), Matrix::rows(input, columns), weight_ih))?.into());
        // The gates of a second phase multiplied `mid`, whose rows lie behind those of h.
        let first = cell.first_phase_gates() as u64;
        let operand_len = dims.directions * dims.rows * dims.hidden;
        for (gate, gates, offset) in [(0, first, 0), (first, cell.gates().len() as u64 - first, operand_len)] {
            if gates > 0 {
                let a = d_gates(d_rh + gate * dims.hidden);
                let b = Matrix::rows(map.operands, dims.hidden).at(offset).batched(dims.rows * dims.hidden);
                let c = partial(block.weight_hh + (gate * dims.hidden * dims.hidden) as usize, dims.hidden);
                program.push(matmul(ctx, &product(gates * dims.hidden, dims.hidden, a, b, c))?.into());
            }
        }
        let mut sums = Vec::new();
        if let Some(bias) = block.bias {
            sums.push((dims.gate_rows, 0, bias));
            sums.push((dims.gate_rows, d_rh, bias + dims.gate_rows as usize));
        }
        if let Some(unit) = block.unit {
            sums.push((unit_rows(cell) as u64 * dims.hidden, u64::from(sizes.d_unit), unit));
        }
        for (columns, from, to) in sums {
            let a = Matrix::rows(map.d_rows, columns).at(from).batched(dims.rows * columns);
            program.push(column_sum(ctx, [dims.rows, columns, dims.directions], a, partial(to, columns), splits)?.into());
        }
        let d_params = Slot::whole(Role::DParams, network.layout.len() as u64);
        let range = block.weight_ih as u64..block.weight_ih as u64 + len;
        program.push(reduce(ctx, partial(block.weight_ih, 1).slot, count, d_params, range, options.accumulate)?.into());
        Ok(())
    }

    /// The gradient of a layer's input: d_wx·W_ih, summed over directions, then back through dropout.
    fn input_gradient(
        &self,
        program: &mut Vec<Segment>,
        dims: &Dims,
        map: &BackwardMap,
        sizes: &StepSizes,
        layer: usize,
        options: Options,
    ) -> Result<()> {
        if layer == 0 && !options.d_input {
            return Ok(());
        }
        let network = &*self.network;
        let columns = network.config.layer_input_size(layer) as u64;
        let params = Slot::whole(Role::Params, network.layout.len() as u64);
        let dropout = self.dropout_below(layer);
        let dst = if layer == 0 { Slot::whole(Role::DInput, dims.rows * columns) } else { map.d_inner };
        let raw = if dropout.is_some() { map.prepared } else { dst };
        for direction in 0..dims.directions {
            let weight_ih = network.layout.block(layer, direction as usize).weight_ih as u64;
            let product = Product {
                m: dims.rows,
                n: columns,
                k: dims.gate_rows,
                batches: 1,
                a: Matrix::rows(map.d_rows, dims.gate_rows).at(direction * dims.rows * dims.gate_rows),
                b: Matrix::rows(params, columns).at(weight_ih),
                c: Matrix::rows(raw, columns),
                bias: None,
                accumulate: direction > 0,
                splits: Splits::NONE,
            };
            program.push(matmul(&self.ctx, &product)?.into());
        }
        if dropout.is_some() {
            program.push(prepare(&self.ctx, sizes, columns, [raw, dst, map.marks], dropout)?.into());
        }
        Ok(())
    }
}

fn forward_buffer<'a>(buffers: &ForwardBuffers<'a>, role: Role) -> Option<BufferBinding<'a>> {
    match role {
        Role::Params => Some(buffers.params.clone()),
        Role::Input => Some(buffers.input.clone()),
        Role::Output => Some(buffers.output.clone()),
        Role::InitialState => buffers.initial_state.clone(),
        Role::FinalState => buffers.final_state.clone(),
        Role::Lengths => buffers.lengths.clone(),
        Role::Reset => buffers.reset.clone(),
        Role::DropoutState => buffers.dropout_state.clone(),
        Role::Reserve => buffers.reserve.clone(),
        Role::Workspace => Some(buffers.workspace.clone()),
        _ => None,
    }
}

impl Options {
    fn of_forward(buffers: &ForwardBuffers<'_>) -> Self {
        Self {
            initial_state: buffers.initial_state.is_some(),
            final_state: false,
            lengths: buffers.lengths.is_some(),
            reset: buffers.reset.is_some(),
            d_final_state: false,
            d_input: false,
            d_initial_state: false,
            accumulate: false,
        }
    }
}

/// The caller's buffers as slots, absent ones empty.
struct UserSlots {
    params: Slot,
    input: Slot,
    output: Slot,
    initial_state: Slot,
    final_state: Slot,
    lengths: Slot,
    reset: Slot,
    d_output: Slot,
    d_final_state: Slot,
    d_initial_state: Slot,
}

impl UserSlots {
    fn new(sizes: &BufferSizes, options: Options) -> Self {
        let slot = |role, bytes: u64| Slot::whole(role, bytes / 4);
        Self {
            params: slot(Role::Params, sizes.params),
            input: slot(Role::Input, sizes.input),
            output: slot(Role::Output, sizes.output),
            initial_state: slot(Role::InitialState, sizes.state).only_if(options.initial_state),
            final_state: slot(Role::FinalState, sizes.state).only_if(options.final_state),
            lengths: slot(Role::Lengths, sizes.lengths).only_if(options.lengths),
            reset: slot(Role::Reset, sizes.reset).only_if(options.reset),
            d_output: slot(Role::DOutput, sizes.output),
            d_final_state: slot(Role::DFinalState, sizes.state).only_if(options.d_final_state),
            d_initial_state: slot(Role::DInitialState, sizes.state).only_if(options.d_initial_state),
        }
    }
}

/// Sizes that everything is computed from, in elements.
#[derive(Debug, Clone, Copy)]
struct Dims {
    seq_len: u64,
    batch: u64,
    /// T·B.
    rows: u64,
    hidden: u64,
    directions: u64,
    /// G·H.
    gate_rows: u64,
    /// D·H.
    output: u64,
    states: u64,
    /// One state of all layers and directions: L·D·B·H.
    block: u64,
    batch_first: bool,
}

impl Dims {
    fn new(network: &Network, shape: SeqShape) -> Result<Self> {
        let (cell, config) = (&*network.cell, &network.config);
        let most = u64::from(u32::MAX);
        // Every other size is at most a small multiple of these two.
        let width =
            (cell.gates().len() + cell.saved() + cell.states() + 2) as u128 * config.hidden_size.max(config.input_size) as u128;
        let largest = shape.rows() as u128 * width * config.num_directions() as u128;
        let states =
            shape.batch_size as u128 * (config.num_layers * config.num_directions()) as u128 * config.hidden_size as u128;
        for needed in [largest, states * cell.states() as u128] {
            if needed > most.into() {
                let needed = u64::try_from(needed).unwrap_or(u64::MAX);
                return Err(Error::Limit { limit: "u32 index", needed, actual: most });
            }
        }
        Ok(Self {
            seq_len: shape.seq_len as u64,
            batch: shape.batch_size as u64,
            rows: shape.rows() as u64,
            hidden: config.hidden_size as u64,
            directions: config.num_directions() as u64,
            gate_rows: (cell.gates().len() * config.hidden_size) as u64,
            output: config.output_size() as u64,
            states: cell.states() as u64,
            block: (state_len(cell, config, shape) / cell.states()) as u64,
            batch_first: config.batch_first,
        })
    }

    /// Elements of one layer's gate gradients: [D, T·B, G, H].
    fn gate_elements(&self) -> u64 {
        self.directions * self.rows * self.gate_rows
    }

    /// Where the per-unit gradients start in d_rows.
    fn d_unit_offset(&self, network: &Network) -> u64 {
        self.gate_elements() * if network.cell.split_gradients() { 2 } else { 1 }
    }

    fn marks(&self) -> u64 {
        self.batch + self.rows
    }

    fn pack_sizes(&self) -> PackSizes {
        PackSizes {
            seq_len: self.seq_len as u32,
            batch: self.batch as u32,
            states: self.states as u32,
            block: self.block as u32,
            ..Default::default()
        }
    }

    fn step_sizes(&self, network: &Network, layer: usize, has_reset: bool) -> StepSizes {
        let block = network.layout.block(layer, 0);
        StepSizes {
            seq_len: self.seq_len as u32,
            batch: self.batch as u32,
            rows: self.rows as u32,
            row_t: if self.batch_first { 1 } else { self.batch as u32 },
            row_b: if self.batch_first { self.seq_len as u32 } else { 1 },
            hidden: self.hidden as u32,
            directions: self.directions as u32,
            layer: layer as u32 * self.directions as u32,
            block: self.block as u32,
            has_reset: has_reset.into(),
            has_bias: block.bias.is_some().into(),
            weight: block.weight_hh as u32,
            bias: block.bias.map_or(0, |b| b as u32 + self.gate_rows as u32),
            unit: block.unit.unwrap_or(0) as u32,
            param_stride: block.len as u32,
            ..Default::default()
        }
    }
}

impl ReserveMap {
    fn new(network: &Network, dims: &Dims, mode: Mode, arena: &mut Arena) -> Self {
        let layers = network.config.num_layers;
        if mode == Mode::Inference {
            return Self { header: Slot::EMPTY, kept: vec![Slot::EMPTY; layers], outputs: Vec::new() };
        }
        let dropout = network.config.dropout > 0.0 && layers > 1;
        let header = arena.alloc(if dropout { 4 } else { 0 });
        let values = (network.cell.saved() + network.cell.states() - 1) as u64;
        let kept = (0..layers).map(|_| arena.alloc(dims.directions * dims.rows * values * dims.hidden)).collect();
        let outputs = (1..layers).map(|_| arena.alloc(dims.rows * dims.output)).collect();
        Self { header, kept, outputs }
    }
}

impl ForwardMap {
    fn new(network: &Network, dims: &Dims, mode: Mode, arena: &mut Arena) -> Self {
        let stacked = network.config.num_layers > 1;
        let dropout = stacked && mode == Mode::Training && network.config.dropout > 0.0;
        let scratch = strategy::phase_scratch(&*network.cell, dims.directions, dims.batch, dims.hidden);
        let inner = if stacked && mode == Mode::Inference { dims.rows * dims.output } else { 0 };
        Self {
            marks: arena.alloc(dims.marks()),
            state: arena.alloc((dims.states + 1) * dims.block + scratch),
            input_part: arena.alloc(dims.gate_elements()),
            inner: arena.alloc(inner),
            prepared: arena.alloc(if dropout { dims.rows * dims.output } else { 0 }),
        }
    }
}

impl BackwardMap {
    fn new(ctx: &Context, network: &Network, dims: &Dims, arena: &mut Arena) -> Self {
        let (cell, config) = (&*network.cell, &network.config);
        let stacked = config.num_layers > 1;
        let two_phases = cell.first_phase_gates() < cell.gates().len();
        let units = dims.directions * dims.rows * unit_rows(cell) as u64 * dims.hidden;
        let widest = if stacked { dims.output.max(config.input_size as u64) } else { config.input_size as u64 };
        let partial = |layer| {
            let block = network.layout.block(layer, 0).len as u64;
            block * dims.directions * weight_splits(ctx, network, dims, layer)
        };
        Self {
            marks: arena.alloc(dims.marks()),
            state: arena.alloc(2 * dims.states * dims.block),
            d_rows: arena.alloc(dims.d_unit_offset(network) + units),
            operands: arena.alloc(dims.directions * dims.rows * dims.hidden * if two_phases { 2 } else { 1 }),
            d_inner: arena.alloc(if stacked { dims.rows * dims.output } else { 0 }),
            prepared: arena.alloc(dims.rows * widest),
            partial: arena.alloc((0..config.num_layers).map(partial).max().unwrap_or(0)),
        }
    }
}

/// How many parts the sum over T·B of a layer's weight gradients is cut into: enough workgroups to fill the device, but
/// parts of at least 64 rows, and partial results that one binding holds.
fn weight_splits(ctx: &Context, network: &Network, dims: &Dims, layer: usize) -> u64 {
    let wanted = if ctx.is_software() { 8 } else { 512 };
    let block = network.layout.block(layer, 0).len as u64 * dims.directions;
    let columns = network.config.layer_input_size(layer).min(network.config.hidden_size) as u64;
    let tiles = tiles(ctx, dims.gate_rows, columns) * dims.directions;
    let fitting = ctx.limits().max_storage_buffer_binding_size / (4 * block);
    u64::div_ceil(wanted, tiles).min(dims.rows.div_ceil(64)).min(64).min(fitting).max(1)
}

/// A forward pass bound to its buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Forward {
    bound: Arc<Bound>,
}

/// A backward pass bound to its buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backward {
    bound: Arc<Bound>,
}

macro_rules! recording {
    ($name:ident, $label:literal) => {
        impl $name {
            /// Records one labelled compute pass. Touches no queue, allocates no GPU object, may be called any number of times.
            pub fn encode(&self, encoder: &mut CommandEncoder) {
                let descriptor = wgpu::ComputePassDescriptor { label: Some($label), timestamp_writes: None };
                self.dispatch(&mut encoder.begin_compute_pass(&descriptor));
            }

            /// Records into the app's own pass. Pipeline, bind groups 0 and 1 and immediates are left changed.
            pub fn dispatch(&self, pass: &mut ComputePass<'_>) {
                self.bound.record(pass);
            }

            /// How many dispatches one recording makes.
            pub fn dispatches(&self) -> usize {
                self.bound.dispatches()
            }
        }
    };
}

recording!(Forward, "tidegate forward");
recording!(Backward, "tidegate backward");
