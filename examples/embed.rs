//! An LSTM inside an app that has a `wgpu::Device` and compute passes of its own.
//!
//! The app's first pass makes the input on the GPU, the LSTM reads it there, the app's last pass reduces the LSTM's output
//! to its peak per row. All of it is one command encoder and one submit; only the peaks ever come back to the host.
//!
//! `cargo run --example embed`

use std::error::Error;

use tidegate::check::Tolerance;
use tidegate::{Context, Forward, ForwardBuffers, Lstm, Mode, Params, Rnn, RnnConfig, SeqShape, Sequence, reference};
use wgpu::{BufferUsages, CommandEncoder, ComputePass, ComputePassDescriptor};

const SHAPE: SeqShape = SeqShape { seq_len: 32, batch_size: 8 };
const INPUT_SIZE: usize = 4;
const HIDDEN_SIZE: usize = 64;

/// The app's kernels. Tensors are row-major: input `[T, B, I]`, output `[T, B, H]`, peaks `[B]`.
const APP_WGSL: &str = "
override T: u32;
override B: u32;
override I: u32;
override H: u32;

// A sweep whose pitch rises with t, b and i. The parabolas stand for a sine, whose error WGSL allows to be 2^-11.
@group(0) @binding(0) var<storage, read_write> input: array<f32>;
@compute @workgroup_size(64) fn sweep(@builtin(global_invocation_id) id: vec3u) {
    let index = id.x;
    if index >= T * B * I { return; }
    let t = index / (B * I);
    let pitch = index % (B * I) + 1u;
    let x = 2.0 * fract(f32(t * t * pitch) / 4096.0) - 1.0;
    input[index] = 4.0 * x * (1.0 - abs(x));
}

@group(0) @binding(0) var<storage, read> output: array<f32>;
@group(0) @binding(1) var<storage, read_write> peaks: array<f32>;
@compute @workgroup_size(64) fn peak(@builtin(global_invocation_id) id: vec3u) {
    let b = id.x;
    if b >= B { return; }
    var largest = -1.0;
    for (var t = 0u; t < T; t++) {
        for (var j = 0u; j < H; j++) { largest = max(largest, output[(t * B + b) * H + j]); }
    }
    peaks[b] = largest;
}
";

/// One of the app's own kernels, bound to its buffers.
struct AppKernel {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    workgroups: u32,
}

impl AppKernel {
    fn new(device: &wgpu::Device, entry: &str, buffers: &[&wgpu::Buffer], threads: usize) -> Self {
        let source = wgpu::ShaderSource::Wgsl(APP_WGSL.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(entry), source });
        let sizes = [("T", SHAPE.seq_len), ("B", SHAPE.batch_size), ("I", INPUT_SIZE), ("H", HIDDEN_SIZE)];
        let constants = sizes.map(|(name, size)| (name, size as f64));
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
            cache: None,
        });
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(entry), layout: &layout, entries: &entries });
        Self { pipeline, group, workgroups: threads.div_ceil(64) as u32 }
    }

    fn dispatch(&self, pass: &mut ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.workgroups, 1, 1);
    }

    fn encode(&self, encoder: &mut CommandEncoder) {
        self.dispatch(&mut encoder.begin_compute_pass(&ComputePassDescriptor::default()));
    }
}

/// Three passes, the LSTM's made by tidegate.
fn frame_in_own_passes(encoder: &mut CommandEncoder, sweep: &AppKernel, lstm: &Forward, peak: &AppKernel) {
    sweep.encode(encoder);
    lstm.encode(encoder);
    peak.encode(encoder);
}

/// One pass of the app's, into which tidegate only dispatches. It leaves a pipeline and bind groups of its own set.
fn frame_in_one_pass(encoder: &mut CommandEncoder, sweep: &AppKernel, lstm: &Forward, peak: &AppKernel) {
    let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: Some("frame"), timestamp_writes: None });
    sweep.dispatch(&mut pass);
    lstm.dispatch(&mut pass);
    peak.dispatch(&mut pass);
}

fn main() -> Result<(), Box<dyn Error>> {
    // The app's device. tidegate's wishes go into its descriptor, together with the app's own; none is a must.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("app"),
        required_features: Context::wanted_features(&adapter),
        required_limits: Context::wanted_limits(&adapter),
        ..Default::default()
    }))?;

    // The network, and what it needs for this shape. `upload` is the only call here that writes through the queue.
    let ctx = Context::from_device(&adapter, &device, &queue)?;
    let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(INPUT_SIZE, HIDDEN_SIZE))?;
    let weights = Params::uniform(rnn.param_layout(), 7);
    let params = rnn.upload(&weights)?;
    let plan = rnn.plan(SHAPE, Mode::Inference)?;
    let sizes = plan.sizes();

    // The app's buffers, as large as the plan says. A buffer that tidegate binds needs usage STORAGE, the rest is up to you.
    let buffer = |label, size, usage| {
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    };
    let input = buffer("input", sizes.input, BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let output = buffer("output", sizes.output, BufferUsages::STORAGE | BufferUsages::COPY_DST);
    let workspace = buffer("workspace", sizes.workspace, BufferUsages::STORAGE);
    let peaks_bytes = 4 * SHAPE.batch_size as u64;
    let peaks = buffer("peaks", peaks_bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST);
    let staging = buffer("staging", peaks_bytes, BufferUsages::COPY_DST | BufferUsages::MAP_READ);

    // Bind once, record as often as you like.
    let lstm = plan.bind_forward(&ForwardBuffers::new(
        params.as_entire_buffer_binding(),
        input.as_entire_buffer_binding(),
        output.as_entire_buffer_binding(),
        workspace.as_entire_buffer_binding(),
    ))?;
    let sweep = AppKernel::new(&device, "sweep", &[&input], SHAPE.rows() * INPUT_SIZE);
    let peak = AppKernel::new(&device, "peak", &[&output, &peaks], SHAPE.batch_size);

    println!("{}: {} dispatches of tidegate's a frame", adapter.get_info().name, lstm.dispatches());
    let expected = expected_peaks(&rnn, &weights)?;
    let tolerance = Tolerance::new(rnn.config(), SHAPE, false);
    for (name, frame) in [("three passes", frame_in_own_passes as fn(&mut _, &_, &_, &_)), ("one pass", frame_in_one_pass)] {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("frame") });
        // For the check alone: no frame may pass by what the one before it left. An app has no need of it, nor of COPY_DST.
        for left in [&input, &output, &peaks] {
            encoder.clear_buffer(left, 0, None);
        }
        frame(&mut encoder, &sweep, &lstm, &peak);
        encoder.copy_buffer_to_buffer(&peaks, 0, &staging, 0, peaks_bytes);
        queue.submit([encoder.finish()]);

        staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("staging can be mapped"));
        device.poll(wgpu::PollType::wait_indefinitely())?;
        let peaks: Vec<f32> = bytemuck::pod_collect_to_vec(&staging.get_mapped_range(..)?);
        staging.unmap();
        let error = tolerance.compare(name, &expected, &peaks)?;
        println!("{name}: peaks {peaks:.4?}, relative error {error:.1e}");
    }
    Ok(())
}

/// The whole frame again on the CPU, in float64.
fn expected_peaks(rnn: &Rnn, weights: &Params) -> Result<Vec<f64>, tidegate::Error> {
    let SeqShape { seq_len, batch_size } = SHAPE;
    let pitches = batch_size * INPUT_SIZE;
    let input: Vec<f64> = (0..seq_len * pitches)
        .map(|index| {
            let (t, pitch) = (index / pitches, index % pitches + 1);
            let x = 2.0 * ((t * t * pitch) as f64 / 4096.0).fract() - 1.0;
            4.0 * x * (1.0 - x.abs())
        })
        .collect();
    let params: Vec<f64> = weights.values().iter().map(|&p| p.into()).collect();
    let trace = reference::forward(rnn.cell(), rnn.config(), &params, &Sequence::new(SHAPE, &input), Mode::Inference)?;
    let mut peaks = vec![f64::NEG_INFINITY; batch_size];
    for (row, h) in trace.output.output.chunks_exact(HIDDEN_SIZE).enumerate() {
        let peak = &mut peaks[row % batch_size];
        *peak = h.iter().copied().fold(*peak, f64::max);
    }
    Ok(peaks)
}
