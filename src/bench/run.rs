//! A workload on its device, all buffers allocated beforehand, to be run over and over.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgpu::CommandEncoder;

use super::dispatch_times::DispatchTime;
use super::gpu_clock::GpuClock;
use super::times::{Effort, Times};
use super::workload::Workload;
use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::network::params::{ParamLayout, Params};
use crate::network::sequence::Mode;
use crate::plan::allocation::{Fill, GradientBuffers, PlanBuffers};
use crate::plan::{Backward, Forward, ForwardBuffers};
use crate::product::Tile;
use crate::reference::device::{self, CpuRun, widen};
use crate::rnn::Rnn;
use crate::schedule::Strategy;

/// Host data of a workload. Made before the clock starts.
#[derive(Debug)]
pub struct RunData {
    pub params: Vec<f32>,
    pub input: Vec<f32>,
    initial_state: Vec<f32>,
    d_output: Vec<f32>,
    d_final_state: Vec<f32>,
}

impl RunData {
    pub fn new(workload: &Workload) -> Result<Self> {
        let Workload { cell, config, shape, dtype, .. } = workload;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        // Numbers that every device and the reference hold as they are.
        let mut uniform = |n: usize| -> Vec<f32> { (0..n).map(|_| dtype.round(rng.random_range(-1.0..=1.0))).collect() };
        let params = Params::uniform(&ParamLayout::new(cell, config)?, 1);
        let state =
            cell.spec().states.len() * config.num_layers * config.num_directions() * shape.batch_size * config.hidden_size;
        Ok(Self {
            params: params.values().iter().map(|&p| dtype.round(p)).collect(),
            input: uniform(shape.rows() * config.input_size),
            initial_state: uniform(state),
            d_output: uniform(shape.rows() * config.output_size()),
            d_final_state: uniform(state),
        })
    }

    /// The workload on the reference.
    pub fn on_cpu<'a>(&self, workload: &'a Workload) -> CpuRun<'a> {
        let backward = workload.mode == Mode::Training;
        CpuRun {
            cell: &workload.cell,
            config: &workload.config,
            params: widen(&self.params),
            shape: workload.shape,
            input: widen(&self.input),
            initial_state: workload.has_initial_state().then(|| widen(&self.initial_state)),
            lengths: None,
            reset: None,
            hold: None,
            d_output: backward.then(|| widen(&self.d_output)),
            d_final_state: backward.then(|| widen(&self.d_final_state)),
        }
    }
}

/// Which kernels make the bulk products, if not those that are fastest or fit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Products {
    /// Their tile.
    pub tile: Option<Tile>,
    /// Whether products of f16 go by cooperative matrices: see [`Rnn::with_cooperative_matrices`].
    pub cooperative: bool,
    /// Numbers of strategy persistent's layout, where they are not the formula's: see [`Rnn::with_layout`].
    pub layout: Option<&'static str>,
}

impl Products {
    /// The network with these kernels.
    pub fn apply(self, rnn: Rnn) -> Result<Rnn> {
        let rnn = if let Some(tile) = self.tile { rnn.with_tile(tile) } else { rnn };
        let rnn = self.layout.map_or(Ok(rnn.clone()), |layout| rnn.with_layout(layout))?;
        rnn.with_cooperative_matrices(self.cooperative)
    }
}

/// The network of a workload.
pub fn rnn(ctx: &Context, workload: &Workload, strategy: Strategy) -> Result<Rnn> {
    Rnn::new(ctx, workload.cell.clone(), workload.config.clone())?.with_strategy(strategy).with_dtype(workload.dtype)
}

/// A workload bound to buffers on a GPU.
#[derive(Debug)]
pub struct GpuRun {
    ctx: Context,
    strategy: Strategy,
    buffers: PlanBuffers,
    _gradients: Option<GradientBuffers>,
    /// A stream has two that take turns: what one leaves as its final state, the other starts from.
    forwards: Vec<Forward>,
    /// Which is next.
    turn: Cell<usize>,
    backward: Option<Backward>,
    /// Initial and final state of the first of `forwards`.
    states: [DeviceBuffer; 2],
    /// But for the final state.
    results: Vec<Stored>,
}

/// A buffer of results.
#[derive(Debug)]
struct Stored {
    name: &'static str,
    buffer: DeviceBuffer,
    dtype: Dtype,
    len: usize,
}

impl Stored {
    fn f32(name: &'static str, buffer: DeviceBuffer) -> Self {
        let len = buffer.size() as usize / 4;
        Self { name, buffer, dtype: Dtype::F32, len }
    }

    async fn read(&self, ctx: &Context) -> Result<(&'static str, Vec<f32>)> {
        let [words] = ctx.download([&self.buffer]).await?;
        Ok((self.name, self.dtype.decode(words, self.len)))
    }
}

impl GpuRun {
    pub fn new(rnn: &Rnn, workload: &Workload, data: &RunData) -> Result<Self> {
        let ctx = rnn.context();
        let plan = rnn.plan(workload.shape, workload.mode)?;
        let sizes = plan.sizes();
        let buffers = PlanBuffers::new(ctx, &sizes, Fill::Zeros)?;
        let stored = |label, values: &[f32]| buffers.keep(ctx.upload(label, &workload.dtype.encode(values)));
        let state = |label, values: &[f32]| buffers.keep(ctx.upload(label, values));
        let [params, input] = [stored("params", &data.params)?, stored("input", &data.input)?];
        let initial_state = state("initial_state", &data.initial_state)?;
        let forward_buffers = ForwardBuffers {
            initial_state: workload.has_initial_state().then(|| initial_state.as_entire_buffer_binding()),
            ..buffers.forward(&params, &input)
        };
        let mut forwards = vec![plan.bind_forward(&forward_buffers)?];
        if workload.is_stream() {
            let mut swapped = forward_buffers.clone();
            std::mem::swap(&mut swapped.initial_state, &mut swapped.final_state);
            forwards.push(plan.bind_forward(&swapped)?);
        }
        let Workload { config, shape, dtype, .. } = workload;
        let as_stored = |name, buffer: &DeviceBuffer, len| Stored { name, buffer: buffer.clone(), dtype: *dtype, len };
        let mut results = vec![as_stored("output", &buffers.output, shape.rows() * config.output_size())];
        let (mut backward, mut gradients) = (None, None);
        if workload.mode == Mode::Training {
            let d_output = stored("d_output", &data.d_output)?;
            let d_final_state = state("d_final_state", &data.d_final_state)?;
            let made = GradientBuffers::new(ctx, &sizes, Fill::Zeros)?;
            let mut bound = made.backward(forward_buffers, &d_output);
            bound.d_final_state = Some(d_final_state.as_entire_buffer_binding());
            bound.d_initial_state = bound.d_initial_state.filter(|_| workload.has_initial_state());
            backward = Some(plan.bind_backward(&bound)?);
            results.push(as_stored("d_input", &made.d_input, shape.rows() * config.input_size));
            results.push(Stored::f32("d_params", made.d_params.clone()));
            results.push(Stored::f32("d_initial_state", made.d_initial_state.clone()));
            gradients = Some(made);
        }
        let states = [initial_state, buffers.final_state.clone()];
        Ok(Self {
            ctx: ctx.clone(),
            strategy: plan.strategy(),
            forwards,
            turn: Cell::new(0),
            backward,
            states,
            results,
            buffers,
            _gradients: gradients,
        })
    }

    /// The strategy that runs, never `Auto`.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// How many dispatches of strategy persistent failed so far and were repaired, so ran as resident.
    pub async fn repairs(&self) -> Result<u32> {
        let [words] = self.ctx.download([&self.buffers.status]).await?;
        Ok(words[1].to_bits())
    }

    pub fn dispatches(&self) -> usize {
        self.forwards[0].dispatches() + self.backward.as_ref().map_or(0, Backward::dispatches)
    }

    fn encoder(&self) -> CommandEncoder {
        self.ctx.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("tidegate bench") })
    }

    /// Puts back the initial state, which a stream has left.
    pub fn restart(&self, data: &RunData) {
        self.ctx.queue().write_buffer(&self.states[0], 0, bytemuck::cast_slice(&data.initial_state));
        self.turn.set(0);
    }

    fn next(&self) -> &Forward {
        let turn = self.turn.get();
        self.turn.set((turn + 1) % self.forwards.len());
        &self.forwards[turn]
    }

    /// What the last forward pass wrote: of a stream, what the next reads.
    fn final_state(&self) -> &DeviceBuffer {
        &self.states[if self.forwards.len() == 1 { 1 } else { self.turn.get() }]
    }

    /// Records, submits and waits, as an app would.
    pub async fn run(&self) -> Result<()> {
        let mut encoder = self.encoder();
        self.next().encode(&mut encoder);
        if let Some(backward) = &self.backward {
            backward.encode(&mut encoder);
        }
        self.ctx.queue().submit([encoder.finish()]);
        self.ctx.done().await
    }

    /// What the last run computed.
    pub async fn results(&self) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let final_state = Stored::f32("final_state", self.final_state().clone());
        let mut results = Vec::new();
        for stored in self.results.iter().chain([&final_state]) {
            results.push(stored.read(&self.ctx).await?);
        }
        Ok(results)
    }

    /// GPU time of a few more runs, where the adapter has timestamps. They cost the CPU a little, so no run is timed both ways.
    pub async fn gpu_times(&self, now: &impl Fn() -> Duration, stop: &dyn Fn() -> bool) -> Result<Option<Times>> {
        let Some(clock) = GpuClock::new(&self.ctx, 1)? else { return Ok(None) };
        let run = async || {
            let mut encoder = self.encoder();
            // Both passes as one.
            let timestamp_writes = clock.pairs().next();
            let descriptor = wgpu::ComputePassDescriptor { label: Some("tidegate bench"), timestamp_writes };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            self.next().dispatch(&mut pass);
            if let Some(backward) = &self.backward {
                backward.dispatch(&mut pass);
            }
            drop(pass);
            clock.resolve(&mut encoder);
            self.ctx.queue().submit([encoder.finish()]);
            Ok(clock.read(&self.ctx).await?[0])
        };
        Times::collect(now, Effort::GPU, stop, run).await
    }

    /// GPU time of each dispatch over a few more runs; nothing where the adapter has no timestamps, or they tell nothing.
    pub async fn dispatch_times(&self, now: &impl Fn() -> Duration, stop: &dyn Fn() -> bool) -> Result<Vec<DispatchTime>> {
        // The first pass of a stream again and again: the state that it starts from changes no times.
        let backward = self.backward.as_ref().map(|backward| ("backward", backward.bound()));
        let passes: Vec<_> = std::iter::once(("forward", self.forwards[0].bound())).chain(backward).collect();
        let Some(clock) = GpuClock::new(&self.ctx, self.dispatches())? else { return Ok(Vec::new()) };
        let runs = RefCell::new(Vec::new());
        let run = async || {
            let (mut encoder, mut pairs) = (self.encoder(), clock.pairs());
            for (_, bound) in &passes {
                bound.record_apart(&mut encoder, &mut pairs);
            }
            drop(pairs);
            clock.resolve(&mut encoder);
            self.ctx.queue().submit([encoder.finish()]);
            let ms: Vec<f64> = clock.read(&self.ctx).await?.into_iter().map(Option::unwrap_or_default).collect();
            let all = ms.iter().sum();
            runs.borrow_mut().push(ms);
            Ok(Some(all))
        };
        Times::collect(now, Effort::GPU, stop, run).await?;
        let turns: Vec<_> = passes.iter().map(|(name, bound)| (*name, bound.turns().collect())).collect();
        Ok(DispatchTime::of(&turns, &runs.into_inner()))
    }
}

/// Refuses a workload that the reference cannot run, for want of memory or sense.
pub fn check_cpu(workload: &Workload) -> Result<()> {
    let Workload { cell, config, shape, mode, .. } = workload;
    config.validate()?;
    shape.validate()?;
    device::check_memory(cell, config, *shape, *mode == Mode::Training)
}
