//! Measures peaks: kernels that do one thing only, timed until it is done as fast as it gets.

use std::cell::Cell;
use std::time::Duration;

use wgpu::{BindGroup, BindGroupLayout, BufferUsages, ComputePipeline};

use super::kernels::{self, Form};
use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;
use crate::timing::WarmUp;
use crate::timing::clock::{self, Instant, milliseconds};

/// What one run should take, so that its start and end do not count; well within any watchdog.
const ENOUGH_MS: f64 = 20.0;
/// The best of this many runs counts, or of as many as fill this time: any disturbance makes one slower.
const RUNS: usize = 5;
const RUNS_TAKE: Duration = Duration::from_millis(100);
/// Workgroups of arithmetic: so many times as many as run side by side on any GPU that the last to end, with the device half empty, do
/// not count.
const MANY_GROUPS: u32 = 65_535;
/// Those of copies and the like, of which the best counts.
const MEMORY_GROUPS: [u32; 3] = [1024, 4096, 32_768];
const GROUPS_ON_CPU: u32 = 64;
/// Most rounds or passes of a run.
const MOST_ROUNDS: u32 = 1 << 20;
const MOST_PASSES: u32 = 1 << 10;
/// Bytes of each buffer, as far as the device has them: more than four times any GPU's cache.
const BYTES: u64 = 1 << 30;
/// On a software adapter: more than four times most CPUs' caches, and no longer for CI than needed.
const BYTES_ON_CPU: u64 = 128 << 20;
const LEAST_BYTES: u64 = 1 << 20;
/// Words that lie in a cache.
const CACHED_WORDS: u32 = 1 << 18;
const LOADS: u32 = 1 << 14;

/// A device with what its peaks are measured on.
pub struct Peaks<'a> {
    ctx: &'a Context,
    _owned: OwnedBuffers,
    layout: BindGroupLayout,
    group: BindGroup,
    rounds: DeviceBuffer,
    /// Bytes of either buffer.
    bytes: u64,
    /// Workgroups, of each of which every thread has a vector of four words in a buffer.
    most_groups: u32,
    is_warm: Cell<bool>,
}

impl<'a> Peaks<'a> {
    pub fn new(ctx: &'a Context) -> Result<Self> {
        Self::on(ctx, buffers(ctx)?)
    }

    fn on(ctx: &'a Context, buffers: [DeviceBuffer; 2]) -> Result<Self> {
        let (device, owned) = (ctx.device(), OwnedBuffers::default());
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage = wgpu::BufferBindingType::Storage { read_only: false };
        let entries = [entry(0, storage), entry(1, storage), entry(2, wgpu::BufferBindingType::Uniform)];
        let layout = wgpu::BindGroupLayoutDescriptor { label: Some("roofline"), entries: &entries };
        let layout = device.create_bind_group_layout(&layout);
        let [a, b] = buffers.map(|buffer| owned.keep(Ok(buffer)));
        let [a, b] = [a?, b?];
        let rounds = ctx.create_buffer("roofline rounds", 16, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        let rounds = owned.keep(rounds)?;
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("roofline"),
            layout: &layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: a.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: b.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 2, resource: rounds.as_entire_binding() },
            ],
        });
        let most = u32::try_from(a.size() / 16 / u64::from(kernels::THREADS)).unwrap_or(u32::MAX);
        // A software adapter has a thread a core, a GPU tens of thousands in flight.
        let most_groups = if ctx.is_software() { GROUPS_ON_CPU } else { MANY_GROUPS }.min(most);
        Ok(Self { ctx, bytes: a.size(), _owned: owned, layout, group, rounds, most_groups, is_warm: Cell::new(false) })
    }

    /// Kernels of one text; nothing where the device refuses it.
    async fn pipelines<const N: usize>(&self, text: &str, entries: [&str; N]) -> Option<[ComputePipeline; N]> {
        let device = self.ctx.device();
        let layout = wgpu::PipelineLayoutDescriptor {
            label: Some("roofline"),
            bind_group_layouts: &[Some(&self.layout)],
            immediate_size: 0,
        };
        let pipelines = self.ctx.scoped(|| {
            let layout = device.create_pipeline_layout(&layout);
            let source = wgpu::ShaderSource::Wgsl(text.into());
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("roofline"), source });
            entries.map(|entry| {
                device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(entry),
                    layout: Some(&layout),
                    module: &module,
                    entry_point: Some(entry),
                    compilation_options: Default::default(),
                    cache: None,
                })
            })
        });
        let told = self.ctx.settle().await;
        pipelines.ok().filter(|_| told.is_ok())
    }

    /// FLOP/s · 10⁻⁹ of one type in registers.
    pub async fn arithmetic(&self, ty: &str) -> Result<Option<f64>> {
        let flops = f64::from(self.most_groups) * f64::from(kernels::THREADS) * f64::from(kernels::flops_of_a_round());
        let mut best: Option<f64> = None;
        let forms = if self.ctx.is_software() { &[Form::PLAIN] } else { &Form::ALL[..] };
        for &form in forms {
            let Some([kernel]) = self.pipelines(&kernels::arithmetic(ty, form), ["main"]).await else { continue };
            let rate = self.rate(&kernel, flops).await?;
            best = Some(best.map_or(rate, |best| best.max(rate)));
        }
        Ok(best)
    }

    pub async fn cooperative(&self, size: u32) -> Result<Option<f64>> {
        let flops = 2.0 * f64::from(kernels::CHAINS) * f64::from(size).powi(3);
        let flops = flops * f64::from(self.most_groups) * f64::from(kernels::SUBGROUPS);
        match self.pipelines(&kernels::cooperative(size), ["main"]).await {
            Some([kernel]) => self.rate(&kernel, flops).await.map(Some),
            None => Ok(None),
        }
    }

    /// FLOP/s · 10⁻⁹ of a kernel, from its FLOPs a round.
    async fn rate(&self, kernel: &ComputePipeline, flops: f64) -> Result<f64> {
        // Not counted: a first dispatch may compile.
        self.time(kernel, [4, 0], self.most_groups, 1).await?;
        let (enough, mut rounds) = (enough_ms(), 4);
        while self.time(kernel, [rounds, 0], self.most_groups, 1).await? < enough && rounds < MOST_ROUNDS {
            rounds *= 2;
        }
        let best = self.best([rounds, 0], kernel, self.most_groups, 1).await?;
        Ok(flops * f64::from(rounds) / best * 1e-6)
    }

    /// Bytes/s · 10⁻⁹ copied, both sides counted; read; written.
    pub async fn memory(&self) -> Result<[f64; 3]> {
        let text = kernels::memory();
        let Some(all) = self.pipelines(&text, ["copy", "read", "write"]).await else { return Ok([0.0; 3]) };
        let grids = if self.ctx.is_software() { &[GROUPS_ON_CPU] } else { &MEMORY_GROUPS[..] };
        let mut rates = [0.0; 3];
        for ((kernel, rate), sides) in all.iter().zip(&mut rates).zip([2.0, 1.0, 1.0]) {
            // Not counted: it touches the memory for the first time.
            self.time(kernel, [0; 2], self.most_groups, 1).await?;
            for groups in grids.iter().map(|&groups| groups.min(self.most_groups)) {
                let mut passes = 1;
                while self.time(kernel, [0; 2], groups, passes).await? < enough_ms() && passes < MOST_PASSES {
                    passes *= 2;
                }
                let best = self.best([0; 2], kernel, groups, passes).await?;
                *rate = f64::max(*rate, sides * self.bytes as f64 * f64::from(passes) / best * 1e-6);
            }
        }
        Ok(rates)
    }

    /// Nanoseconds of a dependent load from all of a buffer, and from what a cache holds.
    pub async fn latency(&self) -> Result<[Option<f64>; 2]> {
        let Some([link, chase]) = self.pipelines(&kernels::latency(), ["link", "chase"]).await else { return Ok([None; 2]) };
        let words = u32::try_from(self.bytes / 4).unwrap_or(u32::MAX);
        let all = if words.is_power_of_two() { words } else { words.next_power_of_two() / 2 };
        let mut found = [None; 2];
        for (words, found) in [all, CACHED_WORDS.min(all)].into_iter().zip(&mut found) {
            self.time(&link, [0, words], self.most_groups, 1).await?;
            self.time(&chase, [LOADS, words], 1, 1).await?;
            let [long, short] = [self.best([LOADS, words], &chase, 1, 1).await?, self.best([1, words], &chase, 1, 1).await?];
            // Less than nothing is noise.
            *found = Some((long - short) / f64::from(LOADS - 1) * 1e6).filter(|&ns| ns > 0.0);
        }
        Ok(found)
    }

    /// The least milliseconds of some runs on a warm device. What is measured in between lets none cool down.
    async fn best(&self, sizes: [u32; 2], kernel: &ComputePipeline, groups: u32, passes: u32) -> Result<f64> {
        let origin = Instant::now();
        let now = || origin.elapsed();
        if !self.is_warm.replace(true) {
            WarmUp::of(self.ctx).run(&now, &|| false, async || self.time(kernel, sizes, groups, passes).await).await?;
        }
        let (most, time) = if self.ctx.is_software() { (RUNS / 2, Duration::ZERO) } else { (RUNS, RUNS_TAKE) };
        let (mut best, mut runs, start) = (f64::INFINITY, 0, now());
        while runs < most || now() - start < time {
            best = best.min(self.time(kernel, sizes, groups, passes).await?);
            runs += 1;
        }
        Ok(best)
    }

    /// Milliseconds of a number of dispatches, one after the other.
    async fn time(&self, kernel: &ComputePipeline, sizes: [u32; 2], groups: u32, passes: u32) -> Result<f64> {
        self.ctx.queue().write_buffer(&self.rounds, 0, bytemuck::cast_slice(&sizes));
        let mut encoder = self.ctx.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(kernel);
        pass.set_bind_group(0, &self.group, &[]);
        for _ in 0..passes {
            pass.dispatch_workgroups(groups, 1, 1);
        }
        drop(pass);
        let start = Instant::now();
        self.ctx.queue().submit([encoder.finish()]);
        self.ctx.done().await?;
        Ok(milliseconds(start.elapsed()))
    }
}

/// What a run should take at least, by the clock that there is.
fn enough_ms() -> f64 {
    ENOUGH_MS.max(clock::host().least_ms())
}

/// Two buffers, as large as are wanted and to be had.
fn buffers(ctx: &Context) -> Result<[DeviceBuffer; 2]> {
    let limits = ctx.device().limits();
    let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    let mut bytes = (if ctx.is_software() { BYTES_ON_CPU } else { BYTES }).min(most) / 16 * 16;
    loop {
        let buffer = |label| ctx.create_buffer(label, bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        match buffer("roofline a").and_then(|a| Ok([a, buffer("roofline b")?])) {
            Err(Error::Device(_)) if bytes > LEAST_BYTES => bytes = bytes / 32 * 16,
            both => return both,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two small buffers, `a` with these numbers, `b` all −1.
    fn peaks<'a>(ctx: &'a Context, values: &[f32]) -> (Peaks<'a>, [DeviceBuffer; 2]) {
        let a = ctx.upload("roofline a", values).unwrap();
        let b = ctx.upload("roofline b", &vec![-1.0f32; values.len()]).unwrap();
        (Peaks::on(ctx, [a.clone(), b.clone()]).unwrap(), [a, b])
    }

    async fn read(ctx: &Context, buffer: &DeviceBuffer) -> Vec<f32> {
        let [words] = ctx.download([buffer]).await.unwrap();
        words
    }

    /// Two workgroups for 1 to some turns of four vectors a thread, and a ragged end of less than one.
    #[test]
    fn memory_kernels_move_every_vector_once() {
        pollster::block_on(async {
            let ctx = Context::request().await.unwrap();
            let threads = 2 * kernels::THREADS as usize;
            for vectors in [threads - 3, 4 * threads, 9 * threads + 5, 3 * threads + 1] {
                let values: Vec<f32> = (0..4 * vectors).map(|i| i as f32).collect();
                let (peaks, [_, b]) = peaks(&ctx, &values);
                let [copy, write] = peaks.pipelines(&kernels::memory(), ["copy", "write"]).await.unwrap();
                peaks.time(&copy, [0; 2], 2, 1).await.unwrap();
                assert_eq!(read(&ctx, &b).await, values, "{vectors}");
                peaks.time(&write, [0; 2], 2, 1).await.unwrap();
                let ids = (0..4 * vectors).map(|i| (i / 4 % threads) as f32);
                assert_eq!(read(&ctx, &b).await, ids.collect::<Vec<_>>(), "{vectors}");
            }
        });
    }

    /// Only the thread that reads the one number that counts writes.
    #[test]
    fn the_read_meets_every_vector() {
        pollster::block_on(async {
            let ctx = Context::request().await.unwrap();
            let threads = 2 * kernels::THREADS as usize;
            let vectors = 5 * threads + 7;
            for at in [0, threads - 1, threads, 3 * threads + 9, 4 * threads, 5 * threads + 6] {
                let mut values = vec![0.0; 4 * vectors];
                values[4 * at] = 12345.0;
                let (peaks, [_, b]) = peaks(&ctx, &values);
                let [kernel] = peaks.pipelines(&kernels::memory(), ["read"]).await.unwrap();
                peaks.time(&kernel, [0; 2], 2, 1).await.unwrap();
                let written = read(&ctx, &b).await;
                let who: Vec<usize> = (0..vectors).filter(|i| written[4 * i] != -1.0).collect();
                assert_eq!(who, [at % threads], "{at}");
            }
        });
    }

    /// Else all runs after the first would read from a cache.
    #[test]
    fn a_chase_goes_on_where_the_last_one_ended() {
        pollster::block_on(async {
            let ctx = Context::request().await.unwrap();
            let words = 1 << 12;
            let (peaks, [_, b]) = peaks(&ctx, &vec![0.0; words as usize]);
            let [link, chase] = peaks.pipelines(&kernels::latency(), ["link", "chase"]).await.unwrap();
            peaks.time(&link, [0, words], 2, 1).await.unwrap();
            // What was in `b` before is cut to the ring.
            let mut at = (-1.0f32).to_bits() & (words - 1);
            for loads in [1000, 1, 3000] {
                peaks.time(&chase, [loads, words], 1, 1).await.unwrap();
                for _ in 0..loads {
                    at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & (words - 1);
                }
                assert_eq!(read(&ctx, &b).await[0].to_bits(), at, "{loads}");
            }
        });
    }
}
