//! What this device's dispatches and workgroups cost, apart from any network: the floor under every strategy.
//!
//! Prints the adapter's limits and cooperative matrices, then in µs: an empty submit with its wait, one more dispatch that depends
//! on the one before, and one round of words exchanged between P workgroups, which is the least that a step of strategy
//! persistent can take. Without `--bench` (as `cargo test` runs it) everything runs once.

use std::time::{Duration, Instant};

use tidegate::Context;
use wgpu::{BufferUsages, ComputePipeline, Features};

/// An idle GPU's clock needs some 100 ms of work to come up.
const WARM_UP: Duration = Duration::from_millis(300);

/// Times of one thing, in ascending order; where there are several, on a warm device.
fn sorted(runs: usize, mut run: impl FnMut()) -> Vec<f64> {
    run();
    let start = Instant::now();
    while runs > 1 && start.elapsed() < WARM_UP {
        run();
    }
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e6
    };
    let mut times: Vec<f64> = (0..runs).map(time).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn median(times: &[f64]) -> f64 {
    times[times.len() / 2]
}

struct Probe {
    ctx: Context,
    words: tidegate::DeviceBuffer,
    sizes: tidegate::DeviceBuffer,
    group: wgpu::BindGroup,
    touch: ComputePipeline,
    exchange: ComputePipeline,
}

const WORDS: u64 = 4 << 20;

impl Probe {
    fn new(ctx: Context) -> Self {
        let device = ctx.device();
        let module = device.create_shader_module(wgpu::include_wgsl!("../src/bench/floor.wgsl"));
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: None,
            entries: &[
                entry(0, wgpu::BufferBindingType::Storage { read_only: false }),
                entry(1, wgpu::BufferBindingType::Uniform),
            ],
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = |entry_point| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry_point),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: Default::default(),
                cache: None,
            })
        };
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let words = ctx.create_buffer("words", WORDS, usage).expect("4 MiB");
        let sizes = ctx.create_buffer("sizes", 8, BufferUsages::UNIFORM | BufferUsages::COPY_DST).expect("8 bytes");
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: words.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: sizes.as_entire_binding() },
            ],
        });
        let (touch, exchange) = (pipeline("touch"), pipeline("exchange"));
        Self { ctx, words, sizes, group, touch, exchange }
    }

    /// Submits `dispatches` of `workgroups` in one pass and waits; zeroes the words before.
    fn run(&self, pipeline: &ComputePipeline, dispatches: u32, workgroups: u32) {
        let mut encoder = self.ctx.device().create_command_encoder(&Default::default());
        encoder.clear_buffer(&self.words, 0, None);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        for _ in 0..dispatches {
            pass.dispatch_workgroups(workgroups, 1, 1);
        }
        drop(pass);
        self.ctx.queue().submit([encoder.finish()]);
        self.ctx.wait().expect("the device finishes");
    }

    /// µs of a round among `workgroups`, if all of them ran side by side every time.
    fn round(&self, workgroups: u32, rounds: u32, spin_limit: u32, runs: usize) -> Option<f64> {
        let mut failed = false;
        let mut time = |rounds: u32| {
            self.ctx.queue().write_buffer(&self.sizes, 0, bytemuck::cast_slice(&[rounds, spin_limit]));
            median(&sorted(runs, || {
                self.run(&self.exchange, 1, workgroups);
                let [words] = pollster::block_on(self.ctx.download([&self.words])).expect("words can be read");
                failed |= words[0].to_bits() > 0;
            }))
        };
        let (short, long) = (time(1), time(rounds));
        (!failed).then(|| (long - short) / f64::from(rounds - 1))
    }
}

fn main() {
    let timed = std::env::args().any(|arg| arg == "--bench");
    let (runs, dispatches) = if timed { (50, 1000) } else { (1, 2) };
    let ctx = pollster::block_on(Context::request()).expect("this needs an adapter");
    let info = ctx.adapter_info().clone();
    println!("{} ({}), {} {}", info.name, info.backend, info.driver, info.driver_info);
    println!("subgroups of {}..={} threads", info.subgroup_min_size, info.subgroup_max_size);
    let limits = ctx.device().limits();
    println!(
        "{} threads and {} bytes of memory a workgroup, bindings of {} bytes, {} storage buffers, f16: {}",
        limits.max_compute_invocations_per_workgroup,
        limits.max_compute_workgroup_storage_size,
        limits.max_storage_buffer_binding_size,
        limits.max_storage_buffers_per_shader_stage,
        ctx.device().features().contains(Features::SHADER_F16),
    );
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let options = wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
    if let Ok(adapter) = pollster::block_on(instance.request_adapter(&options)) {
        println!("the adapter's features: {:?}", adapter.features());
        for matrix in adapter.cooperative_matrix_properties() {
            println!("cooperative matrix: {matrix:?}");
        }
    }

    let probe = Probe::new(ctx);
    let empty = sorted(runs, || {
        probe.ctx.queue().submit([]);
        probe.ctx.wait().expect("the device finishes");
    });
    println!("empty submit and wait: {:.1} us", median(&empty));
    let one = median(&sorted(runs, || probe.run(&probe.touch, 1, 1)));
    let many = median(&sorted(runs, || probe.run(&probe.touch, 1 + dispatches, 1)));
    println!("submit, clear, one dispatch, wait: {one:.1} us");
    println!("each dependent dispatch more: {:.2} us", (many - one) / f64::from(dispatches));
    // A software adapter's polls are quick, and its threads may have to wait for a core.
    let (rounds, spin_limit) = if timed { (1000, 1 << 20) } else { (2, 1 << 16) };
    for workgroups in [2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512] {
        match probe.round(workgroups, rounds, spin_limit, runs.min(10)) {
            Some(time) => println!("a round of words between {workgroups} workgroups: {time:.2} us"),
            None => {
                println!("{workgroups} workgroups do not run side by side");
                break;
            }
        }
    }
}
