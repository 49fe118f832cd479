//! [`Rnn`], a network on a device, and its convenience calls.

pub(crate) mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wgpu::{Buffer, BufferUsages, CommandEncoder};

use crate::cell::{Cell, Frozen};
use crate::error::{Error, Result, check_len};
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::element::Element;
use crate::gpu::owned::OwnedBuffers;
use crate::network::config::RnnConfig;
use crate::network::params::{ParamLayout, Params};
use crate::network::sequence::{Gradients, Mode, Output, OutputGradients, SeqShape, Sequence};
use crate::plan::{BackwardBuffers, ForwardBuffers, Network, Plan};
use crate::product::{Tile, Tiles};
use crate::schedule::Strategy;
use crate::schedule::options::ScheduleOptions;
use crate::schedule::persistent::{self, Forced};
use crate::tune::tuning::{Class, Tried, Tuning};

/// A recurrent network on a device, for any shape. Cheap to clone; `Send` and `Sync`.
#[derive(Debug, Clone)]
pub struct Rnn {
    ctx: Context,
    network: Arc<Network>,
    options: ScheduleOptions,
    tuning: Arc<Tuning>,
}

impl Rnn {
    /// Checks the cell, the config and the device. Pipelines are built by the first plan that needs them.
    pub fn new(ctx: &Context, cell: impl Cell + 'static, config: RnnConfig) -> Result<Self> {
        ctx.check_limits()?;
        let cell = Frozen::new(Arc::new(cell));
        let layout = ParamLayout::new(&cell, &config)?;
        let network = Arc::new(Network { cell: Arc::new(cell), config, layout, element: Element::F32 });
        Ok(Self { ctx: ctx.clone(), network, options: ScheduleOptions::new(ctx), tuning: Arc::default() })
    }

    /// Forces a strategy.
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        Self { options: ScheduleOptions { strategy, ..self.options }, ..self }
    }

    /// Lets [`Strategy::Auto`] choose by what [`tune`](Rnn::tune) measured; a tuning of another device is refused.
    pub fn with_tuning(self, tuning: &Tuning) -> Result<Self> {
        tuning.check(&self.ctx)?;
        if let Some(workgroups) = tuning.side_by_side().filter(|_| !self.ctx.is_software()) {
            self.ctx.learn_residency(workgroups);
        }
        Ok(Self { tuning: Arc::new(tuning.clone()), ..self })
    }

    /// Chooses how parameters, input and output are stored on the GPU, f32 by default. f16 is read and written as such where the
    /// device has `shader-f16` (see [`Context::wanted_features`]); elsewhere it is unpacked in the kernels, and what they
    /// write is packed by a dispatch more.
    pub fn with_dtype(self, dtype: Dtype) -> Result<Self> {
        let network = Network { element: self.ctx.element(dtype)?, ..(*self.network).clone() };
        Ok(Self { network: Arc::new(network), ..self })
    }

    /// Bounds the FLOPs that a strategy gives to one workgroup in one dispatch, for devices whose watchdog bites sooner than after
    /// the default 2.2·10⁹: a resident sequence is then cut into more dispatches.
    pub fn with_dispatch_flops(self, dispatch_flops: u64) -> Self {
        Self { options: ScheduleOptions { dispatch_flops, ..self.options }, ..self }
    }

    /// Bounds the bytes of workspace that hold the input's products, 256 MiB by default: a longer sequence goes through a layer in
    /// windows of as many steps as fit, so that the memory for a forward pass in inference does not grow with G·H·T.
    pub fn with_window_bytes(self, window_bytes: u64) -> Self {
        Self { options: ScheduleOptions { window_bytes, ..self.options }, ..self }
    }

    /// Forces the tile of all bulk products, and on a CPU adapter the kernel of GPUs, which has them.
    pub fn with_tile(self, tile: Tile) -> Self {
        let tiles = Tiles { cooperative: self.options.tiles.cooperative, ..Tiles::all(tile) };
        Self { options: ScheduleOptions { tiles, ..self.options }, ..self }
    }

    /// Makes bulk products whose operands are both stored as f16 by cooperative matrices: the hardware's own, with sums in f32. Off by
    /// default, for **no device has run this yet**: its shaders are validated, its results are not. Hold them against those without.
    ///
    /// Needs a device that the app opened with `EXPERIMENTAL_COOPERATIVE_MATRIX`, `SHADER_F16` and `SUBGROUP`, subgroups of 32, and
    /// matrices of 16x16 or 8x8 of f16 with sums in f32 among [`wgpu::Adapter::cooperative_matrix_properties`]; else an error.
    pub fn with_cooperative_matrices(self, on: bool) -> Result<Self> {
        let cooperative = if on { Some(self.ctx.cooperative_size()?) } else { None };
        let tiles = Tiles { cooperative, ..self.options.tiles };
        Ok(Self { options: ScheduleOptions { tiles, ..self.options }, ..self })
    }

    /// How many workgroups strategy persistent may count on to run side by side. By default the threads of a software adapter, on a GPU
    /// what [`Context::measure_residency`] found, or 8 while nothing is known. Where fewer run, its dispatches fail and are repaired.
    pub fn with_workgroups(self, workgroups: u32) -> Self {
        Self { options: ScheduleOptions { workgroups: workgroups.max(1), ..self.options }, ..self }
    }

    /// Whether [`Strategy::Auto`] may take strategy persistent, which it does by default: where a tuning found it fastest, and without
    /// one where [`Context::measure_residency`] has seen workgroups run side by side. A dispatch of which they don't loses at most 2 ms
    /// to its roll call, and is repaired on the GPU.
    pub fn with_auto_persistent(self, allowed: bool) -> Self {
        Self { options: ScheduleOptions { persistent: allowed, ..self.options }, ..self }
    }

    /// Bounds how often a workgroup of strategy persistent polls for one value before the dispatch fails and is repaired.
    pub fn with_spin_limit(self, spin_limit: u32) -> Self {
        // So that counting polls up to it ends.
        Self { options: ScheduleOptions { spin_limit: spin_limit.min(1 << 30), ..self.options }, ..self }
    }

    /// Forces numbers of strategy persistent's layout, or the vendor whose registers it is made for: `vendor=nvidia workgroups=128
    /// units=8`. For tests, and to compare layouts with `tidegate bench`; what a device cannot run is refused by its driver at best.
    #[doc(hidden)]
    pub fn with_layout(self, layout: &str) -> Result<Self> {
        let layout: Forced = layout.parse()?;
        let workgroups = layout.workgroups.unwrap_or(self.options.workgroups);
        Ok(Self { options: ScheduleOptions { layout, workgroups, ..self.options }, ..self })
    }

    /// The device it runs on.
    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// Its cell.
    pub fn cell(&self) -> &dyn Cell {
        &*self.network.cell
    }

    /// How its parameters, input and output are stored.
    pub fn dtype(&self) -> Dtype {
        self.network.element.dtype()
    }

    /// Its shape and options.
    pub fn config(&self) -> &RnnConfig {
        &self.network.config
    }

    /// Names, shapes and ranges of the tensors in the flat parameter block.
    pub fn param_layout(&self) -> &ParamLayout {
        &self.network.layout
    }

    /// Uploads parameters into a new buffer, stored as the network's [`dtype`](Rnn::dtype); they must have its layout.
    pub fn upload(&self, params: &Params) -> Result<Buffer> {
        self.check_layout(params)?;
        self.upload_stored("tidegate params", params.values())
    }

    pub(crate) fn upload_stored(&self, label: &str, values: &[f32]) -> Result<Buffer> {
        self.ctx.upload(label, &self.dtype().encode(values))
    }

    fn check_layout(&self, params: &Params) -> Result<()> {
        if params.layout() != self.param_layout() {
            let (mut ours, mut theirs) = (self.param_layout().iter(), params.layout().iter());
            return Err(loop {
                break match (ours.next(), theirs.next()) {
                    (Some(a), Some(b)) if a == b => continue,
                    (Some(a), Some(b)) if a.name == b.name => {
                        Error::Shape { name: a.name.clone(), expected: a.shape.clone(), actual: b.shape.clone() }
                    }
                    (Some(a), _) => Error::MissingTensor { name: a.name.clone() },
                    (None, b) => Error::UnusedTensor { name: b.map_or_else(String::new, |b| b.name.clone()) },
                };
            });
        }
        Ok(())
    }

    /// What it was given by [`with_tuning`](Rnn::with_tuning); empty if nothing.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Whether a tuning has a choice for this network and shape.
    pub fn is_known_to(&self, tuning: &Tuning, shape: SeqShape, mode: Mode) -> bool {
        tuning.choice(&self.class(shape, mode)).is_some()
    }

    /// What was tried for this network and shape when a tuning was made, in that order; empty if it was not tuned for.
    pub fn tried<'a>(&self, tuning: &'a Tuning, shape: SeqShape, mode: Mode) -> &'a [Tried] {
        tuning.choice(&self.class(shape, mode)).map_or(&[], |choice| &choice.tried)
    }

    /// What this network and shape are to a tuning.
    pub(crate) fn class(&self, shape: SeqShape, mode: Mode) -> Class {
        let config = self.config();
        let class = Class::new(self.cell().name(), config.hidden_size, config.num_directions(), shape.batch_size, mode);
        class.with_dtype(self.dtype())
    }

    /// Sizes and dispatches for one shape. Builds pipelines on first use; never submits.
    pub fn plan(&self, shape: SeqShape, mode: Mode) -> Result<Plan> {
        let tuned = self.tuning.tuned(&self.class(shape, mode));
        let failures = self.tuning.failures().saturating_add(self.ctx.repairs());
        let plan = |options| Plan::new(&self.ctx, &self.network, shape, mode, options, tuned, failures);
        let chosen = plan(self.options);
        if self.options.strategy != Strategy::Auto || !matches!(chosen, Err(Error::Limit { .. })) {
            return chosen;
        }
        // A shape of more rows than one strategy's grid takes is within another's.
        let mut others = [Strategy::Batched, Strategy::Resident, Strategy::Stepwise].into_iter();
        others.find_map(|strategy| plan(ScheduleOptions { strategy, ..self.options }).ok()).map_or(chosen, Ok)
    }

    /// Finds out once what strategy persistent may count on, where it may run and nothing says so.
    pub(crate) async fn measure_residency(&self) -> Result<()> {
        let ScheduleOptions { strategy, workgroups, .. } = self.options;
        let asks = matches!(strategy, Strategy::Auto | Strategy::Persistent) && workgroups == 0;
        if asks && !self.ctx.is_software() && persistent::check(&self.ctx).is_ok() {
            self.ctx.measure_residency().await?;
        }
        Ok(())
    }

    /// The same where nothing can be awaited; in browsers the strategy never runs.
    pub(crate) fn measure_residency_blocking(&self) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        pollster::block_on(self.measure_residency())?;
        Ok(())
    }

    /// Runs host data through the network in inference mode, on buffers of its own.
    pub async fn forward(&self, params: &Buffer, seq: &Sequence<'_>) -> Result<Output> {
        self.measure_residency().await?;
        let run = HostRun::new(self, params, seq, Mode::Inference)?;
        let mut encoder = run.encoder();
        run.plan.bind_forward(&run.forward_buffers())?.encode(&mut encoder);
        self.ctx.submit(encoder)?;
        run.record().await?;
        run.output().await
    }

    /// [`forward`](Rnn::forward) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_blocking(&self, params: &Buffer, seq: &Sequence<'_>) -> Result<Output> {
        pollster::block_on(self.forward(params, seq))
    }

    /// Overwrites uploaded parameters, for the next submit. A [`TrainingRun`] that is still to go backward would then mix old
    /// activations with new weights.
    pub fn write_params(&self, buffer: &Buffer, params: &Params) -> Result<()> {
        self.check_layout(params)?;
        let needed = self.dtype().size_of(params.values().len() as u64);
        if buffer.size() < needed {
            return Err(Error::BufferSize { name: "params", needed, actual: buffer.size() });
        }
        if !buffer.usage().contains(BufferUsages::COPY_DST) {
            return Err(Error::BufferUsage { name: "params", needed: BufferUsages::COPY_DST, actual: buffer.usage() });
        }
        self.ctx.write(buffer, 0, &self.dtype().encode(params.values()))
    }

    /// Runs host data forward in training mode: the output is there for a loss, and [`TrainingRun::backward`] takes its gradient.
    pub async fn forward_training<'a>(&'a self, params: &'a Buffer, seq: &Sequence<'_>) -> Result<TrainingRun<'a>> {
        self.measure_residency().await?;
        let run = HostRun::new(self, params, seq, Mode::Training)?;
        let mut encoder = run.encoder();
        run.plan.bind_forward(&run.forward_buffers())?.encode(&mut encoder);
        self.ctx.submit(encoder)?;
        run.record().await?;
        Ok(TrainingRun { output: run.output().await?, run })
    }

    /// [`forward_training`](Rnn::forward_training) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_training_blocking<'a>(&'a self, params: &'a Buffer, seq: &Sequence<'_>) -> Result<TrainingRun<'a>> {
        pollster::block_on(self.forward_training(params, seq))
    }

    /// Runs host data forward in training mode and the gradients of its output back.
    pub async fn backward(&self, params: &Buffer, seq: &Sequence<'_>, d: &OutputGradients<'_>) -> Result<(Output, Gradients)> {
        let run = self.forward_training(params, seq).await?;
        let gradients = run.backward(d).await?;
        Ok((run.output, gradients))
    }

    /// [`backward`](Rnn::backward) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn backward_blocking(&self, params: &Buffer, seq: &Sequence<'_>, d: &OutputGradients<'_>) -> Result<(Output, Gradients)> {
        pollster::block_on(self.backward(params, seq, d))
    }
}

/// The buffers of one convenience call.
#[derive(Debug)]
pub(crate) struct HostRun<'a> {
    rnn: &'a Rnn,
    ctx: &'a Context,
    plan: Plan,
    params: &'a Buffer,
    input: Buffer,
    output: Buffer,
    initial_state: Option<Buffer>,
    final_state: Buffer,
    lengths: Option<Buffer>,
    reset: Option<Buffer>,
    dropout_state: Buffer,
    reserve: Option<Buffer>,
    status: Buffer,
    /// Repairs of this run that the context knows of.
    recorded: AtomicU32,
    workspace: Buffer,
    _owned: OwnedBuffers,
}

impl<'a> HostRun<'a> {
    pub fn new(rnn: &'a Rnn, params: &'a Buffer, seq: &Sequence<'_>, mode: Mode) -> Result<Self> {
        seq.validate(rnn.cell(), rnn.config())?;
        let ctx = &rnn.ctx;
        let plan = rnn.plan(seq.shape, mode)?;
        let sizes = plan.sizes();
        let owned = OwnedBuffers::default();
        let scratch = |label, size| owned.keep(ctx.create_buffer(label, size, BufferUsages::STORAGE | BufferUsages::COPY_SRC));
        let words = |label, values: &[u32]| owned.keep(ctx.upload(label, values));
        Ok(Self {
            rnn,
            ctx,
            params,
            input: owned.keep(rnn.upload_stored("input", seq.input))?,
            output: scratch("output", sizes.output)?,
            initial_state: seq.initial_state.map(|s| owned.keep(ctx.upload("initial_state", s))).transpose()?,
            final_state: scratch("final_state", sizes.state)?,
            lengths: seq.lengths.map(|l| words("lengths", l)).transpose()?,
            reset: seq.reset.map(|r| words("reset", r)).transpose()?,
            dropout_state: words("dropout_state", &seq.dropout.words())?,
            reserve: (sizes.reserve > 0).then(|| scratch("reserve", sizes.reserve)).transpose()?,
            status: scratch("status", sizes.status)?,
            recorded: AtomicU32::new(0),
            workspace: scratch("workspace", sizes.workspace)?,
            plan,
            _owned: owned,
        })
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub fn context(&self) -> &Context {
        self.ctx
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn encoder(&self) -> CommandEncoder {
        self.ctx.encoder("tidegate")
    }

    pub fn forward_buffers(&self) -> ForwardBuffers<'_> {
        ForwardBuffers {
            params: self.params.as_entire_buffer_binding(),
            input: self.input.as_entire_buffer_binding(),
            output: self.output.as_entire_buffer_binding(),
            initial_state: self.initial_state.as_ref().map(Buffer::as_entire_buffer_binding),
            final_state: Some(self.final_state.as_entire_buffer_binding()),
            lengths: self.lengths.as_ref().map(Buffer::as_entire_buffer_binding),
            reset: self.reset.as_ref().map(Buffer::as_entire_buffer_binding),
            dropout_state: Some(self.dropout_state.as_entire_buffer_binding()),
            reserve: self.reserve.as_ref().map(Buffer::as_entire_buffer_binding),
            status: Some(self.status.as_entire_buffer_binding()),
            workspace: self.workspace.as_entire_buffer_binding(),
        }
    }

    pub async fn output(&self) -> Result<Output> {
        let [output, final_state] = self.ctx.download([&self.output, &self.final_state]).await?;
        let len = self.plan.shape().rows() * self.rnn.config().output_size();
        Ok(Output { output: self.rnn.dtype().decode(output, len), final_state })
    }

    /// What the status holds since the run was made.
    pub async fn status(&self) -> Result<[u32; 4]> {
        let [words] = self.ctx.download([&self.status]).await?;
        Ok([0, 1, 2, 3].map(|i| words[i].to_bits()))
    }

    /// Lets the context know of repairs, so that strategy persistent is dropped where it keeps failing.
    async fn record(&self) -> Result<()> {
        if self.plan.strategy() == Strategy::Persistent {
            let [_, repairs, came, _] = self.status().await?;
            let known = self.recorded.swap(repairs, Ordering::Relaxed);
            self.ctx.record_repairs(repairs.wrapping_sub(known), came);
        }
        Ok(())
    }
}

/// What the backward pass of a [`HostRun`] writes.
#[derive(Debug)]
pub(crate) struct GradientBuffers {
    d_input: Buffer,
    d_params: Buffer,
    d_initial_state: Buffer,
    _owned: OwnedBuffers,
}

impl GradientBuffers {
    pub fn new(run: &HostRun<'_>) -> Result<Self> {
        let sizes = run.plan.sizes();
        let owned = OwnedBuffers::default();
        let result = |label, size| owned.keep(run.ctx.create_buffer(label, size, BufferUsages::STORAGE | BufferUsages::COPY_SRC));
        Ok(Self {
            d_input: result("d_input", sizes.input)?,
            d_params: result("d_params", sizes.d_params)?,
            d_initial_state: result("d_initial_state", sizes.state)?,
            _owned: owned,
        })
    }

    /// Without a gradient of the final state.
    pub fn buffers<'a>(&'a self, run: &'a HostRun<'_>, d_output: &'a Buffer) -> BackwardBuffers<'a> {
        let whole = Buffer::as_entire_buffer_binding;
        BackwardBuffers {
            d_input: Some(whole(&self.d_input)),
            d_initial_state: Some(whole(&self.d_initial_state)),
            ..BackwardBuffers::new(run.forward_buffers(), whole(d_output), whole(&self.d_params))
        }
    }

    pub async fn download(&self, run: &HostRun<'_>) -> Result<Gradients> {
        let [d_input, d_params, d_initial_state] =
            run.ctx.download([&self.d_input, &self.d_params, &self.d_initial_state]).await?;
        let len = run.plan.shape().rows() * run.rnn.config().input_size;
        Ok(Gradients { d_input: run.rnn.dtype().decode(d_input, len), d_params, d_initial_state })
    }
}

/// A training forward on buffers of its own. Its gradients may be asked for any number of times, while the parameters are those
/// of the forward.
#[derive(Debug)]
pub struct TrainingRun<'a> {
    output: Output,
    run: HostRun<'a>,
}

impl TrainingRun<'_> {
    /// Output and final state, with dropout applied.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Gradients of any loss from its gradients in the output.
    pub async fn backward(&self, d: &OutputGradients<'_>) -> Result<Gradients> {
        let (run, ctx) = (&self.run, self.run.ctx);
        check_len("d_output", self.output.output.len(), d.d_output.len())?;
        d.d_final_state.map_or(Ok(()), |d| check_len("d_final_state", self.output.final_state.len(), d.len()))?;
        let owned = OwnedBuffers::default();
        let d_output = owned.keep(run.rnn.upload_stored("d_output", d.d_output))?;
        let d_final_state = d.d_final_state.map(|d| owned.keep(ctx.upload("d_final_state", d))).transpose()?;
        let gradients = GradientBuffers::new(run)?;
        let buffers = BackwardBuffers {
            d_final_state: d_final_state.as_ref().map(Buffer::as_entire_buffer_binding),
            ..gradients.buffers(run, &d_output)
        };
        let mut encoder = run.encoder();
        run.plan.bind_backward(&buffers)?.encode(&mut encoder);
        ctx.submit(encoder)?;
        run.record().await?;
        gradients.download(run).await
    }

    /// [`backward`](TrainingRun::backward) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn backward_blocking(&self, d: &OutputGradients<'_>) -> Result<Gradients> {
        pollster::block_on(self.backward(d))
    }
}
