//! What a device can do at best, measured: the arithmetic of registers alone, the bytes that memory moves, and the time of a load that
//! the next one waits for. A workload's roofline is the time that the first two allow it (Williams, Waterman and Patterson 2009).

mod kernels;

use serde::Serialize;
use web_time::Instant;
use wgpu::{BindGroup, BindGroupLayout, BufferUsages, ComputePipeline, Features};

use super::clock::{self, milliseconds};
use super::workload::Workload;
use crate::error::{Error, Result};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::gpu::owned::OwnedBuffers;
use crate::timing::WarmUp;

/// A device's peaks.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Roofline {
    /// FLOP/s · 10⁻⁹ of f32 products and sums that touch no memory.
    pub peak_gflops: f64,
    /// The same in f16, where the device has it.
    pub peak_gflops_f16: Option<f64>,
    /// The same by cooperative matrices of f16 with sums in f32, where the device was opened with them.
    pub peak_gflops_cooperative: Option<f64>,
    /// Bytes/s · 10⁻⁹ read and written by a copy.
    pub peak_gbytes: f64,
    /// Bytes/s · 10⁻⁹ that can be read.
    pub peak_gbytes_read: Option<f64>,
    /// Bytes/s · 10⁻⁹ that can be written.
    pub peak_gbytes_write: Option<f64>,
    /// Nanoseconds of a load from memory, at random, that the next one waits for.
    pub load_latency_ns: Option<f64>,
    /// The same within a mebibyte, which lies in some cache.
    pub cached_load_latency_ns: Option<f64>,
}

/// What one run should take, so that its start and end do not count; well within any watchdog.
const ENOUGH_MS: f64 = 20.0;
/// The best of this many runs counts: any disturbance makes one slower.
const RUNS: usize = 5;
/// Bytes of each buffer, as far as the device has them: more than four times any GPU's cache.
const BYTES: u64 = 1 << 30;
/// On a software adapter: more than four times most CPUs' caches, and no longer for CI than needed.
const BYTES_ON_CPU: u64 = 128 << 20;
const LEAST_BYTES: u64 = 1 << 20;
/// Words that lie in a cache.
const CACHED_WORDS: u32 = 1 << 18;
const LOADS: u32 = 1 << 14;

impl Roofline {
    pub(super) async fn measure(ctx: &Context) -> Result<Self> {
        let device = Peaks::new(ctx)?;
        let f32 = device.arithmetic("f32").await?.unwrap_or(0.0);
        let f16 = if ctx.device().features().contains(Features::SHADER_F16) { device.arithmetic("f16").await? } else { None };
        let cooperative = match ctx.cooperative_size() {
            Ok(size) => device.cooperative(size).await?,
            Err(_) => None,
        };
        let [copy, read, write] = device.memory().await?;
        let [far, near] = device.latency().await?;
        Ok(Self {
            peak_gflops: f32,
            peak_gflops_f16: f16,
            peak_gflops_cooperative: cooperative,
            peak_gbytes: copy,
            peak_gbytes_read: Some(read),
            peak_gbytes_write: Some(write),
            load_latency_ns: far,
            cached_load_latency_ns: near,
        })
    }

    /// What stands below a device's table.
    pub(super) fn line(&self) -> String {
        let Self { peak_gflops, peak_gbytes, .. } = self;
        let part =
            |name: &str, value: Option<f64>, unit: &str| value.map_or_else(String::new, |v| format!(", {v:.0} {unit}{name}"));
        let f16 = part(" in f16", self.peak_gflops_f16, "GFLOP/s");
        let cooperative = part(" by cooperative matrices", self.peak_gflops_cooperative, "GFLOP/s");
        let reading = part(" reading", self.peak_gbytes_read, "GB/s");
        let writing = part(" writing", self.peak_gbytes_write, "GB/s");
        let latency = part(" a load from memory", self.load_latency_ns, "ns");
        let cached = part(" from a cache", self.cached_load_latency_ns, "ns");
        format!(
            "peaks: {peak_gflops:.0} GFLOP/s in registers{f16}{cooperative}, {peak_gbytes:.1} GB/s copying{reading}{writing}{latency}{cached}\n"
        )
    }

    /// FLOP/s · 10⁻⁹ that a workload may reach.
    fn gflops(&self, dtype: Dtype, cooperative: bool) -> f64 {
        let f16 = if dtype == Dtype::F16 { self.peak_gflops_f16 } else { None };
        let matrices = if cooperative { self.peak_gflops_cooperative } else { None };
        f16.into_iter().chain(matrices).fold(self.peak_gflops, f64::max)
    }

    /// Milliseconds that arithmetic takes at best, and those that memory takes.
    pub(super) fn least_ms(&self, workload: &Workload, cooperative: bool) -> [f64; 2] {
        let gbytes = self.peak_gbytes_read.into_iter().chain(self.peak_gbytes_write).fold(self.peak_gbytes, f64::max);
        let arithmetic = workload.flops() / self.gflops(workload.dtype, cooperative);
        [arithmetic, workload.bytes() / gbytes].map(|time| time * 1e-6)
    }

    /// The part of a run's time that the device's peaks would have taken.
    pub(super) fn fraction(&self, workload: &Workload, cooperative: bool, ms: f64) -> f64 {
        let [arithmetic, memory] = self.least_ms(workload, cooperative);
        arithmetic.max(memory) / ms
    }
}

/// A device with what its peaks are measured on.
struct Peaks<'a> {
    ctx: &'a Context,
    _owned: OwnedBuffers,
    layout: BindGroupLayout,
    group: BindGroup,
    rounds: DeviceBuffer,
    bytes: u64,
    groups: u32,
    warm_up: WarmUp,
}

impl<'a> Peaks<'a> {
    fn new(ctx: &'a Context) -> Result<Self> {
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
        let [a, b] = buffers(ctx)?.map(|buffer| owned.keep(Ok(buffer)));
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
        // A software adapter has a thread a core, a GPU tens of thousands in flight.
        let most = u32::try_from(a.size() / 16 / u64::from(kernels::THREADS)).unwrap_or(u32::MAX);
        let groups = if ctx.is_software() { 64 } else { 4096 }.min(most);
        Ok(Self { ctx, bytes: a.size(), _owned: owned, layout, group, rounds, groups, warm_up: WarmUp::of(ctx) })
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
    async fn arithmetic(&self, ty: &str) -> Result<Option<f64>> {
        let flops = f64::from(self.groups) * f64::from(kernels::THREADS) * f64::from(kernels::flops_of_a_round());
        let mut best: Option<f64> = None;
        // Drivers of CPUs fuse both or neither.
        let fused: &[bool] = if self.ctx.is_software() { &[false] } else { &[true, false] };
        for &fused in fused {
            let Some([kernel]) = self.pipelines(&kernels::arithmetic(ty, fused), ["main"]).await else { continue };
            let rate = self.rate(&kernel, flops).await?;
            best = Some(best.map_or(rate, |best| best.max(rate)));
        }
        Ok(best)
    }

    async fn cooperative(&self, size: u32) -> Result<Option<f64>> {
        let flops = 2.0 * f64::from(kernels::CHAINS) * f64::from(size).powi(3);
        let flops = flops * f64::from(self.groups) * f64::from(kernels::SUBGROUPS);
        match self.pipelines(&kernels::cooperative(size), ["main"]).await {
            Some([kernel]) => self.rate(&kernel, flops).await.map(Some),
            None => Ok(None),
        }
    }

    /// FLOP/s · 10⁻⁹ of a kernel, from its FLOPs a round.
    async fn rate(&self, kernel: &ComputePipeline, flops: f64) -> Result<f64> {
        // Not counted: a first dispatch may compile.
        self.time(kernel, [16, 0], self.groups, 1).await?;
        let (enough, mut rounds) = (ENOUGH_MS.max(clock::host().least_ms()), 16);
        while self.time(kernel, [rounds, 0], self.groups, 1).await? < enough && rounds < 1 << 20 {
            rounds *= 2;
        }
        let best = self.best([rounds, 0], kernel, self.groups, 1).await?;
        Ok(flops * f64::from(rounds) / best * 1e-6)
    }

    /// Bytes/s · 10⁻⁹ copied, both sides counted; read; written.
    async fn memory(&self) -> Result<[f64; 3]> {
        let text = kernels::memory();
        let Some(all) = self.pipelines(&text, ["copy", "read", "write"]).await else { return Ok([0.0; 3]) };
        let least = clock::host().least_ms();
        let mut rates = [0.0; 3];
        for ((kernel, rate), sides) in all.iter().zip(&mut rates).zip([2.0, 1.0, 1.0]) {
            // Not counted: it touches the memory for the first time.
            self.time(kernel, [0; 2], self.groups, 1).await?;
            let mut passes = 1;
            while self.time(kernel, [0; 2], self.groups, passes).await? < least && passes < 1 << 10 {
                passes *= 2;
            }
            let best = self.best([0; 2], kernel, self.groups, passes).await?;
            *rate = sides * self.bytes as f64 * f64::from(passes) / best * 1e-6;
        }
        Ok(rates)
    }

    /// Nanoseconds of a dependent load from all of a buffer, and from what a cache holds.
    async fn latency(&self) -> Result<[Option<f64>; 2]> {
        let Some([link, chase]) = self.pipelines(&kernels::latency(), ["link", "chase"]).await else { return Ok([None; 2]) };
        let words = u32::try_from(self.bytes / 4).unwrap_or(u32::MAX);
        let all = if words.is_power_of_two() { words } else { words.next_power_of_two() / 2 };
        let mut found = [None; 2];
        for (words, found) in [all, CACHED_WORDS.min(all)].into_iter().zip(&mut found) {
            self.time(&link, [0, words], self.groups, 1).await?;
            self.time(&chase, [LOADS, words], 1, 1).await?;
            let [long, short] = [self.best([LOADS, words], &chase, 1, 1).await?, self.best([1, words], &chase, 1, 1).await?];
            // Less than nothing is noise.
            *found = Some((long - short) / f64::from(LOADS) * 1e6).filter(|&ns| ns > 0.0);
        }
        Ok(found)
    }

    /// The least milliseconds of some runs on a warm device.
    async fn best(&self, sizes: [u32; 2], kernel: &ComputePipeline, groups: u32, passes: u32) -> Result<f64> {
        let origin = Instant::now();
        let now = || origin.elapsed();
        self.warm_up.run(&now, &|| false, async || self.time(kernel, sizes, groups, passes).await).await?;
        let mut best = f64::INFINITY;
        for _ in 0..if self.ctx.is_software() { RUNS / 2 } else { RUNS } {
            best = best.min(self.time(kernel, sizes, groups, passes).await?);
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
