//! What a device can do at best, measured: the arithmetic of registers alone, and the bytes of a copy. A workload's roofline is the
//! time that these two allow it (Williams, Waterman and Patterson 2009).

use std::borrow::Cow;

use serde::Serialize;
use web_time::Instant;
use wgpu::{BindGroup, Buffer, BufferUsages, ComputePipeline};

use super::clock::{self, milliseconds};
use super::workload::Workload;
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;

/// A device's peaks.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Roofline {
    /// FLOP/s · 10⁻⁹ of f32 products and sums that touch no memory.
    pub peak_gflops: f64,
    /// Bytes/s · 10⁻⁹ read and written by a copy.
    pub peak_gbytes: f64,
}

/// As in the shader.
const THREADS: u32 = 64;
const FLOPS_OF_A_ROUND: f64 = 64.0;
/// What one run should take, so that its start and end do not count; well within any watchdog.
const ENOUGH_MS: f64 = 20.0;
/// The best of so many is taken: all that disturbs makes it slower.
const RUNS: usize = 5;
/// Bytes of each side of the copy: beyond a CPU's cache, unless the device has no such buffers.
const COPIED: u64 = 256 << 20;

impl Roofline {
    pub(super) async fn measure(ctx: &Context) -> Result<Self> {
        let limits = ctx.device().limits();
        let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let bytes = COPIED.min(most) / 16 * 16;
        // A software adapter has a thread a core, a GPU tens of thousands in flight.
        let groups = if ctx.is_software() { 256 } else { 16_384 };
        let kernels = Kernels::new(ctx, bytes, groups)?;
        // Not counted: a first dispatch may compile, and touches the memory for the first time.
        kernels.arithmetic(1).await?;
        kernels.copy(1).await?;
        let mut rounds = 64;
        let mut best = kernels.arithmetic(rounds).await?;
        let least = clock::host().least_ms();
        while best < ENOUGH_MS.max(least) && rounds < 1 << 20 {
            rounds *= 2;
            best = kernels.arithmetic(rounds).await?;
        }
        for _ in 1..RUNS {
            best = best.min(kernels.arithmetic(rounds).await?);
        }
        let flops = f64::from(groups) * f64::from(THREADS) * f64::from(rounds) * FLOPS_OF_A_ROUND;
        let (mut copies, mut copy) = (1, kernels.copy(1).await?);
        while copy < least && copies < 1 << 10 {
            copies *= 2;
            copy = kernels.copy(copies).await?;
        }
        for _ in 1..RUNS {
            copy = copy.min(kernels.copy(copies).await?);
        }
        Ok(Self { peak_gflops: flops / best * 1e-6, peak_gbytes: 2.0 * bytes as f64 * f64::from(copies) / copy * 1e-6 })
    }

    /// What stands below a device's table.
    pub(super) fn line(&self) -> String {
        let Self { peak_gflops, peak_gbytes } = self;
        format!("peaks: {peak_gflops:.0} GFLOP/s in registers, {peak_gbytes:.1} GB/s copying\n")
    }

    /// Of the time that a run took, the part that the device's peaks would have taken.
    pub(super) fn fraction(&self, workload: &Workload, ms: f64) -> f64 {
        let least = (workload.flops() / self.peak_gflops).max(workload.bytes() / self.peak_gbytes) * 1e-6;
        least / ms
    }
}

struct Kernels<'a> {
    ctx: &'a Context,
    _owned: OwnedBuffers,
    group: BindGroup,
    rounds: Buffer,
    arithmetic: ComputePipeline,
    copy: ComputePipeline,
    groups: u32,
}

impl<'a> Kernels<'a> {
    fn new(ctx: &'a Context, bytes: u64, groups: u32) -> Result<Self> {
        let (device, owned) = (ctx.device(), OwnedBuffers::default());
        let source = wgpu::ShaderSource::Wgsl(Cow::Borrowed(include_str!("roofline.wgsl")));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("roofline"), source });
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage = wgpu::BufferBindingType::Storage { read_only: false };
        let entries = [entry(0, storage), entry(1, storage), entry(2, wgpu::BufferBindingType::Uniform)];
        let binding = wgpu::BindGroupLayoutDescriptor { label: Some("roofline"), entries: &entries };
        let binding = device.create_bind_group_layout(&binding);
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("roofline"),
            bind_group_layouts: &[Some(&binding)],
            immediate_size: 0,
        });
        let buffer = |label| owned.keep(ctx.create_buffer(label, bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC));
        let [a, b] = [buffer("roofline a")?, buffer("roofline b")?];
        let rounds = ctx.create_buffer("roofline rounds", 16, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
        let rounds = owned.keep(rounds)?;
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("roofline"),
            layout: &binding,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: a.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: b.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 2, resource: rounds.as_entire_binding() },
            ],
        });
        let pipeline = |entry| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(entry),
                compilation_options: Default::default(),
                cache: None,
            })
        };
        let [arithmetic, copy] = ["arithmetic", "copy"].map(pipeline);
        Ok(Self { ctx, _owned: owned, group, rounds, arithmetic, copy, groups })
    }

    /// Milliseconds of so many rounds.
    async fn arithmetic(&self, rounds: u32) -> Result<f64> {
        self.ctx.queue().write_buffer(&self.rounds, 0, &rounds.to_le_bytes());
        self.time(&self.arithmetic, 1).await
    }

    /// Of so many copies, one after the other.
    async fn copy(&self, copies: u32) -> Result<f64> {
        self.time(&self.copy, copies).await
    }

    async fn time(&self, pipeline: &ComputePipeline, dispatches: u32) -> Result<f64> {
        let mut encoder = self.ctx.device().create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        for _ in 0..dispatches {
            pass.dispatch_workgroups(self.groups, 1, 1);
        }
        drop(pass);
        let start = Instant::now();
        self.ctx.queue().submit([encoder.finish()]);
        self.ctx.done().await?;
        Ok(milliseconds(start.elapsed()))
    }
}
