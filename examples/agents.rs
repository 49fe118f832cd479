//! 10,000 agents with a memory each, inside an app's own frame: the app's kernel writes what they see, one step of a GRU decides
//! what they do, the app's second kernel moves them. Who dies is reborn in the next frame without memories: the app's kernel says
//! so in the session's mask of resets, on the GPU.
//!
//! A frame is one encoder and one submit; nothing is read back before the end. Then the memories of those who were
//! just born are checked against a first step from nothing in float64.
//!
//! `cargo run --release --example agents -- --frames 1000`

use std::error::Error;
use std::time::Instant;

use tidegate::check::Tolerance;
use tidegate::{Context, Gru, Mode, Params, Rnn, RnnConfig, SeqShape, Sequence, Strategy, reference};
use wgpu::{Buffer, BufferUsages};

const AGENTS: usize = 10_000;
const INPUT_SIZE: usize = 16;
const HIDDEN_SIZE: usize = 64;
const SHAPE: SeqShape = SeqShape { seq_len: 1, batch_size: AGENTS };
/// An app waits for nothing; here it waits for the device every few frames, to tell how long they took.
const BLOCK: usize = 5;
const FRAMES: usize = 25;
const USAGE: &str = "usage: agents [--frames N] [--strategy auto|stepwise|resident|persistent]";

/// The app's kernels. All of an agent is in its buffer: full of zeros, everyone is dead and about to be born.
const APP_WGSL: &str = "
override AGENTS: u32;
override INPUT_SIZE: u32;
override HIDDEN_SIZE: u32;
const FOOD = array(vec2f(-0.5, -0.4), vec2f(0.6, -0.1), vec2f(0.0, 0.6));

struct Agent { position: vec2f, velocity: vec2f, energy: f32, age: f32, births: f32, unused: f32 }
@group(0) @binding(0) var<storage, read_write> agents: array<Agent>;
@group(0) @binding(1) var<storage, read_write> input: array<f32>;
@group(0) @binding(2) var<storage, read_write> reset: array<u32>;
@group(0) @binding(3) var<storage, read> output: array<f32>;

// 0..1, by the PCG hash.
fn random(seed: u32) -> f32 {
    let state = seed * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return f32(((word >> 22u) ^ word) >> 8u) / 16777216.0;
}

@compute @workgroup_size(64) fn observe(@builtin(global_invocation_id) id: vec3u) {
    let i = id.x;
    if i >= AGENTS { return; }
    var agent = agents[i];
    let born = agent.energy <= 0.0;
    if born {
        let seed = 3u * (i + AGENTS * u32(agent.births));
        let position = 2.0 * vec2f(random(seed), random(seed + 1u)) - 1.0;
        agent = Agent(position, vec2f(), 0.1 + random(seed + 2u), 0.0, agent.births + 1.0, 0.0);
        agents[i] = agent;
    }
    reset[i] = u32(born);

    let at = i * INPUT_SIZE;
    let p = agent.position;
    let own = array(p.x, p.y, agent.velocity.x, agent.velocity.y, agent.energy, 0.01 * agent.age, 1.0);
    for (var k = 0u; k < 7u; k++) { input[at + k] = own[k]; }
    for (var f = 0u; f < 3u; f++) {
        let to = FOOD[f] - p;
        input[at + 7u + 3u * f] = to.x;
        input[at + 8u + 3u * f] = to.y;
        input[at + 9u + 3u * f] = 1.0 / (1.0 + 10.0 * dot(to, to));
    }
}

@compute @workgroup_size(64) fn act(@builtin(global_invocation_id) id: vec3u) {
    let i = id.x;
    if i >= AGENTS { return; }
    var agent = agents[i];
    agent.velocity = 0.9 * agent.velocity + 0.02 * vec2f(output[i * HIDDEN_SIZE], output[i * HIDDEN_SIZE + 1u]);
    agent.position += agent.velocity;
    agent.age += 1.0;
    agent.energy -= 0.02;
    for (var f = 0u; f < 3u; f++) {
        if distance(FOOD[f], agent.position) < 0.15 { agent.energy = min(agent.energy + 0.05, 1.0); }
    }
    // The world ends at 1.
    if any(abs(agent.position) > vec2f(1.0)) { agent.energy = 0.0; }
    agents[i] = agent;
}
";

/// One of the app's own kernels, bound to its buffers.
struct AppKernel {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
}

impl AppKernel {
    fn new(device: &wgpu::Device, module: &wgpu::ShaderModule, entry: &str, buffers: &[(u32, &Buffer)]) -> Self {
        let sizes = [("AGENTS", AGENTS), ("INPUT_SIZE", INPUT_SIZE), ("HIDDEN_SIZE", HIDDEN_SIZE)];
        let constants = sizes.map(|(name, size)| (name, size as f64));
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
            cache: None,
        });
        let entries =
            buffers.iter().map(|&(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
        let entries: Vec<_> = entries.collect();
        let layout = pipeline.get_bind_group_layout(0);
        let group =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(entry), layout: &layout, entries: &entries });
        Self { pipeline, group }
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some("app"), timestamp_writes: None };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(AGENTS.div_ceil(64) as u32, 1, 1);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut frames, mut strategy) = (FRAMES, Strategy::Auto);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        match &*flag {
            "--frames" => frames = value.parse().map_err(|e| format!("--frames {value}: {e}"))?,
            "--strategy" => strategy = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    if frames < 2 * BLOCK {
        return Err(format!("--frames {frames}: must be at least {}", 2 * BLOCK).into());
    }

    // The app's device.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("app"),
        required_features: Context::wanted_features(&adapter),
        required_limits: Context::wanted_limits(&adapter),
        ..Default::default()
    }))?;

    // One step of the network for everyone. Nobody has trained it: an app would read its own weights.
    let ctx = Context::from_device(&adapter, &device, &queue)?;
    let rnn = Rnn::new(&ctx, Gru::default(), RnnConfig::new(INPUT_SIZE, HIDDEN_SIZE))?.with_strategy(strategy);
    let weights = Params::uniform(rnn.param_layout(), 5);
    let params = rnn.upload(&weights)?;
    let mut session = rnn.session(&params, SHAPE)?;

    let agents = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("agents"),
        size: 32 * AGENTS as u64,
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let reset = session.reset_mask().clone();
    let (input, output) = (session.input(), session.output());
    let source = wgpu::ShaderSource::Wgsl(APP_WGSL.into());
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("agents"), source });
    let observe = AppKernel::new(&device, &module, "observe", &[(0, &agents), (1, input), (2, &reset)]);
    let act = AppKernel::new(&device, &module, "act", &[(0, &agents), (3, output)]);

    let mut times = Vec::new();
    let mut since = Instant::now();
    for frame in 1..=frames {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("frame") });
        observe.encode(&mut encoder);
        session.encode(&mut encoder);
        act.encode(&mut encoder);
        queue.submit([encoder.finish()]);
        if frame % BLOCK == 0 {
            device.poll(wgpu::PollType::wait_indefinitely())?;
            times.push(since.elapsed().as_secs_f64() * 1e3 / BLOCK as f64);
            since = Instant::now();
        }
    }
    // The first block warms up.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let (adapter, dispatches) = (adapter.get_info().name, session.dispatches());
    println!(
        "{adapter}: {AGENTS} agents, GRU of {HIDDEN_SIZE} units, strategy {}, dispatches a frame: {dispatches} + 2",
        strategy.name()
    );
    println!("{:.3} ms a frame: median of {} blocks of {BLOCK} frames", times[times.len() / 2], times.len());

    let [agents, input, state] = pollster::block_on(ctx.download([&agents, session.input(), session.state()]))?;
    let field = |at: usize| agents.iter().skip(at).step_by(8).copied();
    let sum = |at: usize| field(at).map(f64::from).sum::<f64>();
    let [x, y, age] = [0, 1, 5].map(|at| sum(at) / AGENTS as f64);
    println!("after {frames} frames: mean position ({x:.3}, {y:.3}), mean age {age:.1}, {} rebirths", sum(6) - AGENTS as f64);
    let born: Vec<bool> = field(5).map(|age| age == 1.0).collect();
    check_memories(&rnn, &weights, &input, &born, &state)
}

/// Who was born in the last frame remembers that frame alone; everyone else more.
fn check_memories(rnn: &Rnn, weights: &Params, input: &[f32], born: &[bool], state: &[f32]) -> Result<(), Box<dyn Error>> {
    let wide = |values: &[f32]| values.iter().map(|&v| v.into()).collect::<Vec<f64>>();
    let (params, input) = (wide(weights.values()), wide(input));
    let first = reference::forward(rnn.cell(), rnn.config(), &params, &Sequence::new(SHAPE, &input), Mode::Inference)?;
    let tolerance = Tolerance::new(rnn.config(), SHAPE, false);
    let (mut newborn, mut elders) = (0, 0);
    for (i, (truth, state)) in first.output.output.chunks(HIDDEN_SIZE).zip(state.chunks(HIDDEN_SIZE)).enumerate() {
        let fresh = tolerance.compare(&format!("memory of agent {i}"), truth, state);
        if born[i] {
            fresh?;
            newborn += 1;
        } else if fresh.is_err() {
            elders += 1;
        } else {
            return Err(format!("agent {i} was not born in the last frame and remembers nothing").into());
        }
    }
    if newborn == 0 || elders == 0 {
        return Err(format!("{newborn} were born in the last frame and {elders} not: nothing to compare").into());
    }
    println!("{newborn} were born in the last frame and remember only it, as float64 has it; {elders} remember more");
    Ok(())
}
