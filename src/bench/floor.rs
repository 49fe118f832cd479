//! What a device's submits, dispatches and workgroups cost, apart from any network: the floor under every strategy. `benches/probe`
//! tells more of it, by the same shader.

use std::time::Duration;

use serde::Serialize;
use wgpu::{BindGroup, Buffer, BufferUsages, ComputePipeline};

use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;
use crate::schedule::Strategy;
use crate::timing::WarmUp;
use crate::timing::clock::{self, Clock};

/// What submits, dispatches and workgroups cost, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Floor {
    /// Recording, submitting and waiting for one dispatch that does next to nothing.
    pub submit_us: f64,
    /// One dispatch more that depends on the one before.
    pub dispatch_us: f64,
    /// A word from each of some workgroups to all others of them: what a step of strategy persistent waits for. Null where the
    /// strategy is not to be had, or the workgroups did not run side by side.
    pub round_trip_us: Option<f64>,
    /// How many workgroups these are: as many as the strategy counts on.
    pub round_trip_workgroups: u32,
}

const DISPATCHES: u32 = 200;
const ROUNDS: u32 = 5000;
/// A software adapter's polls are quick, and its threads may have to wait for a core.
const SPIN_LIMIT: u32 = 1 << 20;
/// The best of this many runs counts: any disturbance makes one slower.
const RUNS: usize = 15;

impl Floor {
    pub(super) async fn measure(ctx: &Context) -> Result<Self> {
        let cpus = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let workgroups = if ctx.is_software() { cpus() } else { 32 };
        let (probe, clock) = (Probe::new(ctx, workgroups)?, clock::host());
        let one = probe.best(&clock, &probe.touch, 1, 1).await?;
        let many = probe.best(&clock, &probe.touch, 1 + DISPATCHES, 1).await?;
        let has_round_trips = Strategy::all(ctx).contains(&Strategy::Persistent);
        let round_trip_us = if has_round_trips { probe.round_trip(&clock, workgroups).await? } else { None };
        let dispatch_us = ((many - one) / f64::from(DISPATCHES)).max(0.0);
        Ok(Self { submit_us: one, dispatch_us, round_trip_us, round_trip_workgroups: workgroups })
    }

    /// The part of a run's time that its submit and its dispatches would cost if they did nothing.
    pub(super) fn fraction(&self, dispatches: usize, ms: f64) -> f64 {
        (self.submit_us + dispatches.saturating_sub(1) as f64 * self.dispatch_us) * 1e-3 / ms
    }

    /// What stands below a device's table.
    pub(super) fn line(&self) -> String {
        let Self { submit_us, dispatch_us, round_trip_us, round_trip_workgroups } = self;
        let round_trip = round_trip_us.map_or_else(
            || "no round trip between workgroups".into(),
            |us| format!("{us:.2} µs a round trip between {round_trip_workgroups} workgroups"),
        );
        format!("costs: {submit_us:.0} µs a submit and wait, {dispatch_us:.2} µs a dispatch, {round_trip}\n")
    }
}

/// A kernel and what it is bound to.
type Bound = (ComputePipeline, BindGroup);

struct Probe<'a> {
    ctx: &'a Context,
    _owned: OwnedBuffers,
    words: DeviceBuffer,
    sizes: DeviceBuffer,
    touch: Bound,
    exchange: Bound,
}

impl<'a> Probe<'a> {
    fn new(ctx: &'a Context, workgroups: u32) -> Result<Self> {
        let (device, owned) = (ctx.device(), OwnedBuffers::default());
        let bytes = 4 * (1 + u64::from(ROUNDS) * u64::from(workgroups));
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let words = owned.keep(ctx.create_buffer("floor words", bytes, usage))?;
        let sizes = owned.keep(ctx.create_buffer("floor sizes", 8, BufferUsages::UNIFORM | BufferUsages::COPY_DST))?;
        let module = device.create_shader_module(wgpu::include_wgsl!("floor.wgsl"));
        let bound = |entry, buffers: &[&Buffer]| {
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry),
                layout: None,
                module: &module,
                entry_point: Some(entry),
                compilation_options: Default::default(),
                cache: None,
            });
            let entries: Vec<_> = (0..)
                .zip(buffers)
                .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            let layout = pipeline.get_bind_group_layout(0);
            let group = wgpu::BindGroupDescriptor { label: Some(entry), layout: &layout, entries: &entries };
            (pipeline.clone(), device.create_bind_group(&group))
        };
        let (touch, exchange) = (bound("touch", &[&words]), bound("exchange", &[&words, &sizes]));
        Ok(Self { ctx, _owned: owned, words, sizes, touch, exchange })
    }

    /// The fewest microseconds that a run of `count` dispatches took.
    async fn best(&self, clock: &Clock<impl Fn() -> Duration>, bound: &Bound, dispatches: u32, workgroups: u32) -> Result<f64> {
        let mut run = async || self.run(bound, dispatches, workgroups).await;
        // Not counted: a first dispatch may compile.
        run().await?;
        WarmUp::of(self.ctx).run(&|| clock.now(), &|| false, async || clock.time(&mut run).await).await?;
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            best = best.min(clock.time(&mut run).await?);
        }
        Ok(best * 1e3)
    }

    async fn run(&self, (pipeline, group): &Bound, dispatches: u32, workgroups: u32) -> Result<()> {
        let mut encoder = self.ctx.device().create_command_encoder(&Default::default());
        encoder.clear_buffer(&self.words, 0, None);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, group, &[]);
        for _ in 0..dispatches {
            pass.dispatch_workgroups(workgroups, 1, 1);
        }
        drop(pass);
        self.ctx.queue().submit([encoder.finish()]);
        self.ctx.done().await
    }

    /// Microseconds of a round, if all workgroups ran side by side at the end too.
    async fn round_trip(&self, clock: &Clock<impl Fn() -> Duration>, workgroups: u32) -> Result<Option<f64>> {
        let time = async |rounds: u32| {
            self.ctx.queue().write_buffer(&self.sizes, 0, bytemuck::cast_slice(&[rounds, SPIN_LIMIT]));
            let best = self.best(clock, &self.exchange, 1, workgroups).await?;
            let [words] = self.ctx.download([&self.words]).await?;
            Ok::<_, Error>((words[0].to_bits() == 0).then_some(best))
        };
        Ok(match (time(1).await?, time(ROUNDS).await?) {
            // Less than nothing is noise.
            (Some(short), Some(long)) => Some((long - short) / f64::from(ROUNDS - 1)).filter(|&us| us > 0.0),
            _ => None,
        })
    }
}
