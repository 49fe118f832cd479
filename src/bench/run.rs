//! A workload on its device, all buffers allocated beforehand, to be run over and over.

use std::cell::Cell;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgpu::{Backend, BufferUsages, CommandEncoder, Features, QuerySet};

use super::times::{Effort, Times};
use super::workload::Workload;
use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::owned::OwnedBuffers;
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
}

impl Products {
    /// The network with these kernels.
    pub fn apply(self, rnn: Rnn) -> Result<Rnn> {
        let rnn = if let Some(tile) = self.tile { rnn.with_tile(tile) } else { rnn };
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
        if !self.ctx.device().features().contains(Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let clock = GpuClock::new(&self.ctx)?;
        let run = async || {
            let mut encoder = self.encoder();
            clock.record(&mut encoder, self.next(), self.backward.as_ref());
            self.ctx.queue().submit([encoder.finish()]);
            clock.read(&self.ctx).await
        };
        Times::collect(now, Effort::GPU, stop, run).await
    }
}

/// A timestamp at either end of a compute pass.
struct GpuClock {
    queries: QuerySet,
    /// Two u64 of ticks.
    ticks: DeviceBuffer,
    _owned: OwnedBuffers,
}

impl Drop for GpuClock {
    /// For the same reason as [`OwnedBuffers`].
    fn drop(&mut self) {
        self.queries.destroy();
    }
}

impl GpuClock {
    fn new(ctx: &Context) -> Result<Self> {
        let descriptor = wgpu::QuerySetDescriptor { label: Some("tidegate bench"), ty: wgpu::QueryType::Timestamp, count: 2 };
        let queries = ctx.device().create_query_set(&descriptor);
        let owned = OwnedBuffers::default();
        let ticks = owned.keep(ctx.create_buffer("tidegate bench", 16, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC))?;
        Ok(Self { queries, ticks, _owned: owned })
    }

    /// Both passes as one.
    fn record(&self, encoder: &mut CommandEncoder, forward: &Forward, backward: Option<&Backward>) {
        let timestamp_writes = wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        };
        let descriptor = wgpu::ComputePassDescriptor { label: Some("tidegate bench"), timestamp_writes: Some(timestamp_writes) };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        forward.dispatch(&mut pass);
        if let Some(backward) = backward {
            backward.dispatch(&mut pass);
        }
        drop(pass);
        encoder.resolve_query_set(&self.queries, 0..2, &self.ticks, 0);
    }

    async fn read(&self, ctx: &Context) -> Result<Option<f64>> {
        // The download gives each u64 as the bits of two f32.
        let [words] = ctx.download([&self.ticks]).await?;
        let tick = |at: usize| u64::from(words[at].to_bits()) | u64::from(words[at + 1].to_bits()) << 32;
        let least_ns = if ctx.adapter_info().backend == Backend::BrowserWebGpu { LEAST_NS_IN_BROWSERS } else { 0.0 };
        Ok(between(tick(0), tick(2), ctx.queue().get_timestamp_period(), least_ns))
    }
}

/// Browsers round timestamps to 0.1 ms: what is shorter than 20 of these they cannot tell.
const LEAST_NS_IN_BROWSERS: f64 = 20.0 * 1e5;

/// Milliseconds from one timestamp to another; nothing if the adapter's clock stood still, ran backwards, or is too coarse.
fn between(start: u64, end: u64, period_ns: f32, least_ns: f64) -> Option<f64> {
    let ns = end.checked_sub(start)? as f64 * f64::from(period_ns);
    (ns > 0.0 && ns >= least_ns).then_some(ns * 1e-6)
}

/// Refuses a workload that the reference cannot run, for want of memory or sense.
pub fn check_cpu(workload: &Workload) -> Result<()> {
    let Workload { cell, config, shape, mode, .. } = workload;
    config.validate()?;
    shape.validate()?;
    device::check_memory(cell, config, *shape, *mode == Mode::Training)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_that_tell_nothing_are_none() {
        assert_eq!(between(1000, 3000, 1.0, 0.0), Some(2e-3));
        assert_eq!(between(1000, 3000, 40.0, 0.0), Some(8e-2));
        for (start, end, period) in [(1000, 1000, 1.0), (3000, 1000, 1.0), (1000, 3000, 0.0)] {
            assert_eq!(between(start, end, period, 0.0), None, "{start} to {end}, {period} ns each");
        }
        let browser = |elapsed: u64| between(500_000, 500_000 + elapsed, 1.0, LEAST_NS_IN_BROWSERS);
        assert_eq!((browser(100_000), browser(1_900_000), browser(2_000_000)), (None, None, Some(2.0)));
    }
}
