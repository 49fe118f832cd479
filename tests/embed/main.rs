//! What an app does with the library on its own device: plans, bindings, encoders, passes, streams.

#[path = "../common/mod.rs"]
mod common;
mod little;

use std::sync::Arc;

use tidegate::cell::{self, registry};
use tidegate::check::Case;
use tidegate::{
    BackwardBuffers, BinaryGate, Cell, Context, DropoutKey, Elman, Error, ForwardBuffers, Gru, Lstm, Mode, OutputGradients,
    Params, Plan, Rnn, RnnConfig, ScheduleOptions, SeqShape, Sequence, Strategy,
};
use wgpu::{Buffer, BufferBinding, BufferUsages};

const SHAPE: SeqShape = SeqShape { seq_len: 6, batch_size: 3 };

fn encoder(ctx: &Context) -> wgpu::CommandEncoder {
    ctx.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

fn values(seed: u64, n: usize) -> Vec<f32> {
    common::uniform(seed, n, 1.0).into_iter().map(|v| v as f32).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Buffers of one plan, the written ones full of NaN.
struct Buffers {
    params: tidegate::DeviceBuffer,
    input: tidegate::DeviceBuffer,
    output: tidegate::DeviceBuffer,
    final_state: tidegate::DeviceBuffer,
    reserve: tidegate::DeviceBuffer,
    workspace: tidegate::DeviceBuffer,
    dropout_state: tidegate::DeviceBuffer,
    d_output: tidegate::DeviceBuffer,
    d_params: tidegate::DeviceBuffer,
    status: tidegate::DeviceBuffer,
}

fn whole(buffer: &Buffer) -> BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
}

impl Buffers {
    fn new(rnn: &Rnn, plan: &Plan, seed: u64) -> Self {
        let (ctx, sizes) = (rnn.context(), plan.sizes());
        let poisoned = |bytes: u64| ctx.upload("poisoned", &vec![u32::MAX; (bytes / 4) as usize]).unwrap();
        Self {
            params: rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap(),
            input: ctx.upload("input", &values(seed, (sizes.input / 4) as usize)).unwrap(),
            output: poisoned(sizes.output),
            final_state: poisoned(sizes.state),
            reserve: poisoned(sizes.reserve),
            workspace: poisoned(sizes.workspace),
            dropout_state: ctx.upload("dropout_state", &[7u32, 0, 0, 0]).unwrap(),
            d_output: ctx.upload("d_output", &values(seed + 1, (sizes.output / 4) as usize)).unwrap(),
            d_params: poisoned(sizes.params),
            status: ctx.upload("status", &[0u32; 4]).unwrap(),
        }
    }

    fn forward(&self) -> ForwardBuffers<'_> {
        ForwardBuffers {
            final_state: Some(whole(&self.final_state)),
            reserve: Some(whole(&self.reserve)),
            dropout_state: Some(whole(&self.dropout_state)),
            status: Some(whole(&self.status)),
            ..ForwardBuffers::new(whole(&self.params), whole(&self.input), whole(&self.output), whole(&self.workspace))
        }
    }

    fn backward(&self) -> BackwardBuffers<'_> {
        BackwardBuffers::new(self.forward(), whole(&self.d_output), whole(&self.d_params))
    }

    /// Whether strategy persistent failed and was repaired, by another order of sums.
    fn repaired(&self, ctx: &Context) -> bool {
        let [status] = pollster::block_on(ctx.download([&self.status])).unwrap();
        status[1].to_bits() > 0
    }

    fn download(&self, ctx: &Context) -> [Vec<f32>; 3] {
        pollster::block_on(ctx.download([&self.output, &self.final_state, &self.d_params])).unwrap()
    }
}

fn stacked() -> RnnConfig {
    RnnConfig::new(5, 7).with_num_layers(2).with_bidirectional(true).with_dropout(0.3)
}

/// The app's own device as apps have it: no feature, no limit beyond WebGPU's defaults. The step goes by dynamic offset.
#[test]
fn a_plain_borrowed_device_is_enough() {
    let adapter = common::adapter();
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    assert!(!device.features().contains(wgpu::Features::IMMEDIATES));
    let ctx = Context::from_device(&adapter, &device, &queue).unwrap();
    for cell in registry() {
        for strategy in Strategy::all(&ctx) {
            let case = Case::new(stacked().with_batch_first(true), 6, 5);
            pollster::block_on(case.check_gpu(&ctx, &cell, strategy)).unwrap_or_else(|e| panic!("{}: {e}", cell.name()));
        }
    }
}

#[test]
fn same_input_gives_the_same_bits() {
    let ctx = common::context();
    for (cell, strategy) in
        registry().into_iter().flat_map(|cell| Strategy::all(&ctx).into_iter().map(move |s| (cell.clone(), s)))
    {
        let name = format!("{} under {}", cell.name(), strategy.name());
        let rnn = Rnn::new(&ctx, cell, RnnConfig::new(17, 33).with_num_layers(2).with_bidirectional(true)).unwrap();
        let rnn = rnn.with_strategy(strategy);
        let plan = rnn.plan(SeqShape { seq_len: 65, batch_size: 9 }, Mode::Training).unwrap();
        let mut seen = None;
        let mut runs = 0;
        for attempt in 0.. {
            assert!(attempt < 30, "{name}: hardly a run that need not be repaired");
            if runs == 3 {
                break;
            }
            let buffers = Buffers::new(&rnn, &plan, 1);
            let mut encoder = encoder(&ctx);
            plan.bind_forward(&buffers.forward()).unwrap().encode(&mut encoder);
            plan.bind_backward(&buffers.backward()).unwrap().encode(&mut encoder);
            ctx.queue().submit([encoder.finish()]);
            if buffers.repaired(&ctx) {
                continue;
            }
            runs += 1;
            let now = buffers.download(&ctx).map(|v| bits(&v));
            assert!(seen.replace(now.clone()).is_none_or(|before| before == now), "{name}");
        }
    }
}

/// One plan, bound to two sets of buffers and recorded into one encoder, one of them twice.
#[test]
fn one_plan_serves_many_bindings_in_one_encoder() {
    let ctx = common::context();
    for (cell, strategy) in [
        ("lstm", Strategy::Resident),
        ("gru_reset_before", Strategy::Stepwise),
        ("gru_reset_before", Strategy::Batched),
        ("lstm", Strategy::Persistent),
        ("gru_reset_before", Strategy::Persistent),
    ] {
        let rnn = Rnn::new(&ctx, cell::by_name(cell).unwrap(), stacked().with_dropout(0.0)).unwrap().with_strategy(strategy);
        let plan = rnn.plan(SHAPE, Mode::Training).unwrap();
        let alone = [1, 5].map(|seed| {
            let buffers = Buffers::new(&rnn, &plan, seed);
            let mut encoder = encoder(&ctx);
            plan.bind_forward(&buffers.forward()).unwrap().encode(&mut encoder);
            plan.bind_backward(&buffers.backward()).unwrap().encode(&mut encoder);
            ctx.queue().submit([encoder.finish()]);
            buffers.download(&ctx)
        });
        let both = [1, 5].map(|seed| Buffers::new(&rnn, &plan, seed));
        let forward = both.each_ref().map(|b| plan.bind_forward(&b.forward()).unwrap());
        let backward = both.each_ref().map(|b| plan.bind_backward(&b.backward()).unwrap());
        let mut encoder = encoder(&ctx);
        for part in [0, 1, 0] {
            forward[part].encode(&mut encoder);
        }
        for part in [1, 0, 1] {
            backward[part].encode(&mut encoder);
        }
        ctx.queue().submit([encoder.finish()]);
        for (buffers, alone) in both.iter().zip(&alone) {
            let found = buffers.download(&ctx);
            if strategy == Strategy::Persistent {
                // Some of the runs may have been repaired.
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * (1.0 + a.abs());
                assert!(alone.iter().flatten().zip(found.iter().flatten()).all(near), "{cell}");
            } else {
                assert_eq!(found.map(|v| bits(&v)), alone.each_ref().map(|v| bits(v)), "{cell}");
            }
        }
    }
}

/// The app's pass before, ours in the same open pass, the app's pass after; one submit.
#[test]
fn dispatch_joins_the_apps_own_pass() {
    for strategy in [Strategy::Stepwise, Strategy::Batched, Strategy::Resident, Strategy::Persistent] {
        joins_the_apps_own_pass(strategy);
    }
}

fn joins_the_apps_own_pass(strategy: Strategy) {
    let ctx = common::context();
    let rnn = Rnn::new(&ctx, Gru::default(), RnnConfig::new(4, 4)).unwrap().with_strategy(strategy);
    let plan = rnn.plan(SHAPE, Mode::Inference).unwrap();
    let buffers = Buffers::new(&rnn, &plan, 3);
    let forward = plan.bind_forward(&buffers.forward()).unwrap();

    let double = |buffer: &Buffer| {
        let source = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
            @compute @workgroup_size(1) fn main() { for (var i = 0u; i < arrayLength(&x); i++) { x[i] = 2.0 * x[i]; } }";
        let module = ctx
            .device()
            .create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(source.into()) });
        let pipeline = ctx.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let group = ctx.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
        });
        (pipeline, group)
    };
    let (before, after) = (double(&buffers.input), double(&buffers.output));
    let mut encoder = encoder(&ctx);
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let run = |pass: &mut wgpu::ComputePass<'_>, (pipeline, group): &(wgpu::ComputePipeline, wgpu::BindGroup)| {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        };
        run(&mut pass, &before);
        forward.dispatch(&mut pass);
        run(&mut pass, &after);
    }
    ctx.queue().submit([encoder.finish()]);
    let [output, ..] = buffers.download(&ctx);

    let input: Vec<f32> = values(3, SHAPE.rows() * 4).iter().map(|x| 2.0 * x).collect();
    let expected = rnn.forward_blocking(&buffers.params, &Sequence::new(SHAPE, &input)).unwrap().output;
    let worst = output.iter().zip(&expected).map(|(a, b)| (a - 2.0 * b).abs()).fold(0.0, f32::max);
    assert!(worst <= if strategy == Strategy::Persistent { 1e-6 } else { 0.0 }, "{strategy:?}: {worst}");
}

/// All that is read in one buffer of the app, all that is written in another, each part at an offset.
#[test]
fn buffers_may_be_parts_of_larger_ones() {
    let ctx = common::context();
    let rnn = Rnn::new(&ctx, Lstm::default(), stacked().with_dropout(0.0)).unwrap();
    let plan = rnn.plan(SHAPE, Mode::Inference).unwrap();
    let sizes = plan.sizes();
    let alone = Buffers::new(&rnn, &plan, 1);
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
    let large =
        |size| ctx.device().create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let part = |n: u64, size: u64| n * 65_536 + 256 * u64::from(size > 0);
    let (read, written) = (large(4 * 65_536), large(4 * 65_536));
    let at = |buffer, n, size| BufferBinding { buffer, offset: part(n, size), size: wgpu::BufferSize::new(size) };
    let forward = ForwardBuffers {
        final_state: Some(at(&written, 1, sizes.state)),
        ..ForwardBuffers::new(
            at(&read, 0, sizes.params),
            at(&read, 1, sizes.input),
            at(&written, 0, sizes.output),
            at(&written, 2, sizes.workspace),
        )
    };
    let mut encoder = encoder(&ctx);
    encoder.copy_buffer_to_buffer(&alone.params, 0, &read, part(0, 1), sizes.params);
    encoder.copy_buffer_to_buffer(&alone.input, 0, &read, part(1, 1), sizes.input);
    plan.bind_forward(&forward).unwrap().encode(&mut encoder);
    plan.bind_forward(&alone.forward()).unwrap().encode(&mut encoder);
    ctx.queue().submit([encoder.finish()]);
    let [expected, ..] = alone.download(&ctx);
    let [written] = pollster::block_on(ctx.download([&written])).unwrap();
    assert_eq!(bits(&written[64..][..expected.len()]), bits(&expected));
}

/// What training keeps, per unit and step, by the table of the design; no more.
#[test]
fn the_reserve_holds_exactly_what_backward_needs() {
    let ctx = common::context();
    // Saved values, and the states beyond h, which is the output.
    let table: [(Arc<dyn Cell>, usize); 8] = [
        (Arc::new(Elman::linear()), 0),
        (Arc::new(Elman::tanh()), 0),
        (Arc::new(Elman::tanh().with_clip(1.0)), 1),
        (Arc::new(BinaryGate), 2),
        (Arc::new(Lstm::default()), 4 + 1),
        (Arc::new(Lstm::default().with_clip(1.0).with_peepholes(true)), 4 + 1),
        (Arc::new(Gru::default()), 4),
        (Arc::new(Gru::reset_before()), 3),
    ];
    let (rows, hidden) = (8 * 16, 16);
    let shape = SeqShape { seq_len: 8, batch_size: 16 };
    for (cell, kept) in table {
        let config = RnnConfig::new(3, hidden).with_num_layers(3).with_bidirectional(true);
        let plan = |config| Rnn::new(&ctx, cell.clone(), config).unwrap().plan(shape, Mode::Training).unwrap();
        let per_layer = 2 * rows * hidden * kept;
        let outputs_below = 2 * (rows * 2 * hidden);
        assert_eq!(plan(config.clone()).sizes().reserve, 4 * (3 * per_layer + outputs_below) as u64, "{cell:?}");
        let inference = Rnn::new(&ctx, cell.clone(), config).unwrap().plan(shape, Mode::Inference).unwrap();
        assert_eq!(inference.sizes().reserve, 0);
        assert_eq!(plan(RnnConfig::new(3, hidden)).sizes().reserve, 4 * (rows * hidden * kept) as u64, "{cell:?}");
    }
}

#[test]
fn a_layer_takes_two_dispatches_more_than_its_steps() {
    let ctx = common::context();
    for (cell, per_step) in [("rnn_tanh", 1), ("binary_gate", 1), ("lstm", 1), ("gru", 1), ("gru_reset_before", 2)] {
        let rnn = Rnn::new(&ctx, cell::by_name(cell).unwrap(), RnnConfig::new(4, 4).with_bidirectional(true)).unwrap();
        let rnn = rnn.with_strategy(Strategy::Stepwise);
        let plan = rnn.plan(SHAPE, Mode::Inference).unwrap();
        let forward = plan.bind_forward(&Buffers::new(&rnn, &plan, 1).forward()).unwrap();
        assert_eq!(forward.dispatches(), per_step * SHAPE.seq_len + 2, "{cell}");
    }
}

/// Packing and the clear, the product, then the steps and their repair. Of a layer above that, its own clear.
#[test]
fn a_persistent_layer_takes_four_dispatches() {
    let ctx = common::context();
    for cell in ["lstm", "gru_reset_before"] {
        let rnn = Rnn::new(&ctx, cell::by_name(cell).unwrap(), RnnConfig::new(4, 4)).unwrap().with_strategy(Strategy::Persistent);
        for seq_len in [1, 4096] {
            let plan = rnn.plan(SeqShape { seq_len, batch_size: 8 }, Mode::Training).unwrap();
            let buffers = Buffers::new(&rnn, &plan, 1);
            assert_eq!(plan.bind_forward(&buffers.forward()).unwrap().dispatches(), 4, "{cell}, T {seq_len}");
        }
    }
}

/// Before anything is measured.
#[test]
fn auto_goes_by_the_shape() {
    let ctx = common::context();
    let plan = |hidden, seq_len, batch_size| {
        // Where workgroups were seen side by side it would be persistent.
        let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(4, hidden))
            .unwrap()
            .with_schedule(ScheduleOptions::default().with_auto_persistent(false));
        rnn.plan(SeqShape { seq_len, batch_size }, Mode::Inference).unwrap()
    };
    for (hidden, seq_len, batch, strategy) in [
        (64, 3, 1, Strategy::Resident),
        (64, 3, 100, Strategy::Resident),
        (600, 3, 1, Strategy::Stepwise),
        (600, 3, 100, Strategy::Batched),
        (600, 1, 100, Strategy::Stepwise),
    ] {
        assert_eq!(plan(hidden, seq_len, batch).strategy(), strategy, "H {hidden}, T {seq_len}, B {batch}");
    }
}

/// As README says.
#[test]
fn batched_makes_two_dispatches_a_step() {
    let ctx = common::context();
    for (cell, dispatches) in [("lstm", 2 * 7 + 3), ("gru_reset_before", 4 * 7 + 3)] {
        let rnn = Rnn::new(&ctx, cell::by_name(cell).unwrap(), RnnConfig::new(4, 4)).unwrap().with_strategy(Strategy::Batched);
        let plan = rnn.plan(SeqShape { seq_len: 7, batch_size: 2 }, Mode::Inference).unwrap();
        assert_eq!(plan.bind_forward(&Buffers::new(&rnn, &plan, 1).forward()).unwrap().dispatches(), dispatches, "{cell}");
    }
}

/// What the issue of the strategies asks for: T = 4096 at H = 128, B = 8 is one chunk, whatever runs it.
#[test]
fn a_long_sequence_is_one_chunk() {
    let ctx = common::context();
    let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(1, 128)).unwrap();
    for (strategy, most) in [(Strategy::Resident, 4), (Strategy::Persistent, 6)] {
        let rnn = rnn.clone().with_strategy(strategy);
        let plan = rnn.plan(SeqShape { seq_len: 4096, batch_size: 8 }, Mode::Inference).unwrap();
        let dispatches = plan.bind_forward(&Buffers::new(&rnn, &plan, 1).forward()).unwrap().dispatches();
        assert!(dispatches <= most, "{strategy:?}: {dispatches}");
    }
}

/// On GPUs the kernel takes lengths, resets and initial states from the call's own buffers: nothing packs them before.
#[test]
fn a_resident_layer_takes_three_dispatches() {
    let ctx = common::context();
    let packs = usize::from(ctx.is_software());
    for cell in ["lstm", "gru_reset_before"] {
        let rnn = Rnn::new(&ctx, cell::by_name(cell).unwrap(), RnnConfig::new(4, 4)).unwrap().with_strategy(Strategy::Resident);
        for seq_len in [1, 4096] {
            let plan = rnn.plan(SeqShape { seq_len, batch_size: 8 }, Mode::Training).unwrap();
            let buffers = Buffers::new(&rnn, &plan, 1);
            assert_eq!(plan.bind_forward(&buffers.forward()).unwrap().dispatches(), 2 + packs, "{cell}, T {seq_len}");
        }
        // Packing and the product, then a dispatch for every step where one step is too much already.
        let rnn = rnn.with_schedule(ScheduleOptions::default().with_dispatch_flops(1));
        let plan = rnn.plan(SHAPE, Mode::Training).unwrap();
        let forward = plan.bind_forward(&Buffers::new(&rnn, &plan, 1).forward()).unwrap();
        assert_eq!(forward.dispatches(), 1 + packs + SHAPE.seq_len, "{cell}");
    }
}

/// Every forward takes the next mask, and backward the one of its forward.
#[test]
fn dropout_differs_from_call_to_call() {
    let ctx = common::context();
    let rnn = Rnn::new(&ctx, Gru::default(), stacked()).unwrap();
    let plan = rnn.plan(SHAPE, Mode::Training).unwrap();
    let buffers = Buffers::new(&rnn, &plan, 1);
    let (forward, backward) = (plan.bind_forward(&buffers.forward()).unwrap(), plan.bind_backward(&buffers.backward()).unwrap());
    let input = values(1, SHAPE.rows() * 5);
    let d_output = values(2, SHAPE.rows() * 14);
    let mut outputs = Vec::new();
    for call in 0..3 {
        let mut encoder = encoder(&ctx);
        forward.encode(&mut encoder);
        backward.encode(&mut encoder);
        ctx.queue().submit([encoder.finish()]);
        let [output, _, d_params] = buffers.download(&ctx);
        let seq = Sequence::new(SHAPE, &input).with_dropout(DropoutKey { seed: 7, call });
        let d = OutputGradients { d_output: &d_output, d_final_state: None };
        let (expected, gradients) = rnn.backward_blocking(&buffers.params, &seq, &d).unwrap();
        assert_eq!(bits(&output), bits(&expected.output), "call {call}");
        assert_eq!(bits(&d_params), bits(&gradients.d_params), "call {call}");
        assert!(!outputs.contains(&bits(&output)), "call {call} has an earlier call's mask");
        outputs.push(bits(&output));
    }
}

#[test]
fn a_session_goes_on_where_it_stopped() {
    let ctx = common::context();
    let (batch, chunk, chunks) = (3, 2, 4);
    for (cell, strategy) in [("lstm", Strategy::Stepwise), ("gru", Strategy::Resident)] {
        let rnn = Rnn::new(&ctx, cell::by_name(cell).unwrap(), RnnConfig::new(5, 7).with_num_layers(2)).unwrap();
        let rnn = rnn.with_strategy(strategy);
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
        let shape = SeqShape { seq_len: chunk * chunks, batch_size: batch };
        let input = values(9, shape.rows() * 5);
        // Row 1 starts anew at the third chunk.
        let mut reset = vec![0; shape.rows()];
        reset[2 * chunk * batch + 1] = 1;
        let expected = rnn.forward_blocking(&params, &Sequence::new(shape, &input).with_reset(&reset)).unwrap();

        let mut session = rnn.session(&params, SeqShape { seq_len: chunk, batch_size: batch }).unwrap();
        let mut output = Vec::new();
        for (n, chunk) in input.chunks(chunk * batch * 5).enumerate() {
            if n == 2 {
                session.reset(&[1]).unwrap();
            }
            output.extend(session.advance_blocking(chunk).unwrap());
        }
        let [state] = pollster::block_on(ctx.download([session.state()])).unwrap();
        for (what, actual, expected) in [("output", &output, &expected.output), ("state", &state, &expected.final_state)] {
            let distance = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(distance <= 1e-6, "{what}: {distance}");
        }
    }
}

/// Also where a step may not write where it reads (H = 300).
#[test]
fn a_session_starts_from_a_state() {
    let ctx = common::context();
    let shape = SeqShape { seq_len: 1, batch_size: 3 };
    for (cell, hidden, layers) in [("lstm", 7, 2), ("gru", 300, 1)] {
        let rnn = Rnn::new(&ctx, cell::by_name(cell).unwrap(), RnnConfig::new(5, hidden).with_num_layers(layers)).unwrap();
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
        let mut session = rnn.session(&params, shape).unwrap();
        let len = rnn.cell_spec().states.len() * layers * shape.batch_size * hidden;
        for seed in [20, 30] {
            let (input, state) = (values(seed, shape.rows() * 5), values(seed + 1, len));
            let seq = Sequence::new(shape, &input).with_initial_state(&state).with_reset(&[0, 1, 0]);
            let expected = rnn.forward_blocking(&params, &seq).unwrap();
            // What was to be reset before is overwritten, what is reset after it is zero.
            session.reset(&[0, 1, 2]).unwrap();
            session.set_state(&state).unwrap();
            session.reset(&[1]).unwrap();
            let output = session.advance_blocking(&input).unwrap();
            let [state] = pollster::block_on(ctx.download([session.state()])).unwrap();
            for (what, actual, expected) in [("output", &output, &expected.output), ("state", &state, &expected.final_state)] {
                assert_eq!(actual.len(), expected.len());
                let distance = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(distance <= 1e-6, "{cell}, {what}: {distance}");
            }
        }
        let error = session.set_state(&values(1, len - 1)).unwrap_err();
        assert!(matches!(error, Error::Length { expected, actual, .. } if (expected, actual) == (len, len - 1)), "{error}");
    }
}
