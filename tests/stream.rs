//! Single steps of streams: one dispatch a layer, or one in all, against the reference and against whole sequences.

mod common;

use std::sync::Arc;

use tidegate::check::{Case, Tolerance};
use tidegate::{Cell, Direction, ForwardBuffers, Mode, Params, Rnn, RnnConfig, SeqShape, Sequence, Strategy, cell, reference};
use wgpu::{Buffer, BufferUsages};

/// Beyond what one workgroup reads.
const LARGE: usize = 210;
/// Rows from which a step goes by products over all of them on this device.
fn many() -> usize {
    tidegate::check::rows_by_products(&common::context())
}

fn configs() -> Vec<(RnnConfig, usize)> {
    let many = many();
    vec![
        (RnnConfig::new(3, 5), 1),
        (RnnConfig::new(17, 65).with_num_layers(3).with_bias(false), 3),
        (RnnConfig::new(5, 33).with_num_layers(2).with_bidirectional(true).with_batch_first(true), 9),
        (RnnConfig::new(8, 36).with_num_layers(2).with_bidirectional(true), 5),
        (RnnConfig::new(6, 10).with_num_layers(2).with_direction(Direction::Reverse), 4),
        (RnnConfig::new(3, 5).with_num_layers(3).with_bidirectional(true).with_batch_first(true), many),
        (RnnConfig::new(6, 10).with_bias(false).with_direction(Direction::Reverse), many + 1),
        (RnnConfig::new(7, LARGE).with_num_layers(2).with_bidirectional(true), 3),
        (RnnConfig::new(12, LARGE + 2), 1),
    ]
}

#[test]
fn every_cell_against_the_reference() {
    common::side_by_side(&cell::registry(), |ctx, _, cell| {
        for (config, batch) in configs() {
            if cell.name() == "binary_gate" && config.hidden_size >= LARGE {
                continue; // Some gate always lies too close to its jump.
            }
            let case = Case::new(config, 1, batch);
            let outcome = pollster::block_on(case.check_gpu(ctx, cell, Strategy::Stepwise));
            outcome.unwrap_or_else(|e| panic!("{}: {e}\n{case:?}", cell.name()));
        }
    });
}

/// Without an initial state there is no product with it.
#[test]
fn many_rows_from_nothing() {
    let ctx = common::context();
    for name in ["lstm", "gru_reset_before"] {
        let case = Case { initial_state: false, ..Case::new(RnnConfig::new(3, 9).with_num_layers(2), 1, many()) };
        pollster::block_on(case.check_gpu(&ctx, &cell::by_name(name).unwrap(), Strategy::Stepwise)).unwrap();
    }
}

/// Words that the app writes into a session's mask reset rows once, in that chunk alone, beside rows that the host names.
#[test]
fn a_mask_resets_once() {
    let ctx = common::context();
    for (strategy, chunk, batch) in
        [(Strategy::Stepwise, 1, 5), (Strategy::Stepwise, 1, many()), (Strategy::Stepwise, 3, 5), (Strategy::Resident, 3, 5)]
    {
        let (chunks, input_size, hidden) = (4, 3, 7);
        let rnn = Rnn::new(&ctx, cell::by_name("lstm").unwrap(), RnnConfig::new(input_size, hidden)).unwrap();
        let rnn = rnn.with_strategy(strategy);
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
        let shape = SeqShape { seq_len: chunk * chunks, batch_size: batch };
        let input: Vec<f32> = common::uniform(2, shape.rows() * input_size, 1.0).iter().map(|&v| v as f32).collect();
        let mut reset = vec![0; shape.rows()];
        let (masked, named) = (batch - 1, 2);
        for (at, row) in [(1, masked), (2, masked), (2, named)] {
            reset[at * chunk * batch + row] = 1;
        }
        let whole = rnn.forward_blocking(&params, &Sequence::new(shape, &input).with_reset(&reset)).unwrap().output;

        let mut session = rnn.session(&params, SeqShape { seq_len: chunk, batch_size: batch }).unwrap();
        let mask = session.reset_mask().clone();
        let parts = input.chunks(chunk * batch * input_size).zip(whole.chunks(chunk * batch * hidden));
        for (at, (input, truth)) in parts.enumerate() {
            if at == 1 || at == 2 {
                ctx.queue().write_buffer(&mask, 4 * masked as u64, &1u32.to_le_bytes());
            }
            if at == 2 {
                session.reset(&[named]).unwrap();
            }
            let made = session.advance_blocking(input).unwrap();
            let worst = truth.iter().zip(&made).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{} T={chunk} B={batch} chunk {at}: {worst}", strategy.name());
        }
    }
}

/// The one cell whose parameters of a unit go beyond biases, with all its options.
#[test]
fn peepholes() {
    let ctx = common::context();
    let cell = tidegate::Lstm::default().with_peepholes(true).with_input_forget(true).with_cell_clip(0.4).with_clip(0.5);
    let cell: Arc<dyn Cell> = Arc::new(cell);
    for batch in [5, many()] {
        let case = Case::new(RnnConfig::new(7, 9).with_num_layers(2), 1, batch);
        pollster::block_on(case.check_gpu(&ctx, &cell, Strategy::Stepwise)).unwrap();
    }
}

#[test]
fn dispatches_of_a_step() {
    let ctx = common::context();
    let count = |name: &str, batch_size: usize, hidden: usize, layers: usize| {
        let shape = SeqShape { seq_len: 1, batch_size };
        let config = RnnConfig::new(8, hidden).with_num_layers(layers);
        let rnn = Rnn::new(&ctx, cell::by_name(name).unwrap(), config).unwrap();
        let plan = rnn.plan(shape, Mode::Inference).unwrap();
        let sizes = plan.sizes();
        let buffer = |size| ctx.create_buffer("test", size, BufferUsages::STORAGE).unwrap();
        let [params, input, output, workspace] = [sizes.params, sizes.input, sizes.output, sizes.workspace].map(buffer);
        let whole = Buffer::as_entire_buffer_binding;
        let buffers = ForwardBuffers::new(whole(&params), whole(&input), whole(&output), whole(&workspace));
        plan.bind_forward(&buffers).unwrap().dispatches()
    };
    assert_eq!(count("lstm", 2, 64, 2), 1);
    assert_eq!(count("gru_reset_before", 2, 64, 2), 1);
    assert_eq!(count("lstm", 2, 256, 2), 2);
    assert_eq!(count("gru_reset_before", 2, 512, 3), 6);
    // Without an initial state, whose product it would be, one less.
    assert_eq!(count("lstm", many(), 64, 2), 4);
    assert_eq!(count("gru_reset_before", many(), 64, 1), 4);
}

/// A stream of single steps gives what the sequence gives, its state updated in place, its rows reset as by `reset`.
#[test]
fn sessions_step_as_sequences_run() {
    let ctx = common::context();
    for (name, batch, hidden, layers, proj) in [
        ("lstm", 3, 33, 2, 0),
        ("lstm", 3, 33, 2, 17),
        ("gru_reset_before", 3, 33, 2, 0),
        ("lstm", 3, LARGE, 2, 0),
        ("gru_reset_before", 3, 300, 1, 0),
        ("lstm", many(), 9, 2, 0),
        ("gru_reset_before", many(), 9, 2, 0),
    ] {
        let (seq_len, input_size) = (5, 4);
        let config = RnnConfig::new(input_size, hidden).with_num_layers(layers).with_proj_size(proj);
        let width = config.output_size();
        let rnn = Rnn::new(&ctx, cell::by_name(name).unwrap(), config).unwrap();
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
        let shape = SeqShape { seq_len, batch_size: batch };
        let input: Vec<f32> = common::uniform(2, shape.rows() * input_size, 1.0).iter().map(|&v| v as f32).collect();
        let mut reset = vec![0; shape.rows()];
        reset[3 * batch + 1] = 1;
        let whole = rnn.forward_blocking(&params, &Sequence::new(shape, &input).with_reset(&reset)).unwrap().output;
        let mut session = rnn.session(&params, SeqShape { seq_len: 1, batch_size: batch }).unwrap();
        for t in 0..seq_len {
            if t == 3 {
                session.reset(&[1]).unwrap();
            }
            let step = session.advance_blocking(&input[t * batch * input_size..][..batch * input_size]).unwrap();
            assert_eq!(step.len(), batch * width);
            let truth = &whole[t * batch * width..][..batch * width];
            let worst = truth.iter().zip(&step).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{name} B={batch} H={hidden} P={proj} step {t}: {worst}");
        }
    }
}

/// Agents of a simulation: many rows, of which some start anew at every step. The host names them to a session, or they stand in
/// the reset buffer of a plan whose state is updated in place.
#[test]
fn ten_thousand_rows_reset_at_random() {
    let ctx = common::context();
    let (seq_len, batch, input_size, hidden) = (6, 10_000, 4, 8);
    let (shape, step) = (SeqShape { seq_len, batch_size: batch }, SeqShape { seq_len: 1, batch_size: batch });
    let input: Vec<f32> = common::uniform(2, shape.rows() * input_size, 1.0).iter().map(|&v| v as f32).collect();
    let reset: Vec<u32> = common::uniform(3, shape.rows(), 1.0).iter().map(|&v| (v > 0.9).into()).collect();
    assert!(reset.chunks(batch).all(|rows| (400..600).contains(&rows.iter().sum::<u32>())));
    for name in ["lstm", "gru", "gru_reset_before"] {
        let rnn = Rnn::new(&ctx, cell::by_name(name).unwrap(), RnnConfig::new(input_size, hidden)).unwrap();
        let weights = Params::uniform(rnn.param_layout(), 1);
        let params = rnn.upload(&weights).unwrap();

        let wide = |values: &[f32]| values.iter().map(|&v| v.into()).collect::<Vec<f64>>();
        let (weights, wide_input) = (wide(weights.values()), wide(&input));
        let seq = Sequence::new(shape, &wide_input).with_reset(&reset);
        let truth = reference::forward(rnn.cell(), rnn.config(), &weights, &seq, Mode::Inference).unwrap().output;

        let mut session = rnn.session(&params, step).unwrap();
        let plan = rnn.plan(step, Mode::Inference).unwrap();
        let sizes = plan.sizes();
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let buffer = |size| ctx.create_buffer("test", size, usage).unwrap();
        let [at, out, mask, state, workspace] =
            [sizes.input, sizes.output, sizes.reset, sizes.state, sizes.workspace].map(buffer);
        let whole = Buffer::as_entire_buffer_binding;
        let mut buffers = ForwardBuffers::new(whole(&params), whole(&at), whole(&out), whole(&workspace));
        (buffers.initial_state, buffers.final_state) = (Some(whole(&state)), Some(whole(&state)));
        buffers.reset = Some(whole(&mask));
        let forward = plan.bind_forward(&buffers).unwrap();

        let (mut by_session, mut by_mask) = (Vec::new(), Vec::new());
        for (input, reset) in input.chunks(batch * input_size).zip(reset.chunks(batch)) {
            session.reset(&(0..batch).filter(|&row| reset[row] != 0).collect::<Vec<_>>()).unwrap();
            by_session.extend(session.advance_blocking(input).unwrap());

            ctx.queue().write_buffer(&at, 0, bytemuck::cast_slice(input));
            ctx.queue().write_buffer(&mask, 0, bytemuck::cast_slice(reset));
            let mut encoder = ctx.device().create_command_encoder(&Default::default());
            forward.encode(&mut encoder);
            ctx.queue().submit([encoder.finish()]);
            by_mask.extend(pollster::block_on(ctx.download([&out])).unwrap().concat());
        }
        let states = pollster::block_on(ctx.download([session.state(), &state])).unwrap();
        let tolerance = Tolerance::new(rnn.config(), shape, false);
        for ((how, output), state) in [("session", by_session), ("mask", by_mask)].iter().zip(states) {
            tolerance.compare(&format!("{name} by {how}, output"), &truth.output, output).unwrap();
            tolerance.compare(&format!("{name} by {how}, state"), &truth.final_state, &state).unwrap();
        }
    }
}

/// An app may keep everything in one buffer: what one dispatch cannot bind goes the long way.
#[test]
fn one_buffer_for_input_and_output() {
    let ctx = common::context();
    let shape = SeqShape { seq_len: 1, batch_size: 2 };
    let rnn = Rnn::new(&ctx, tidegate::Lstm::default(), RnnConfig::new(4, 8)).unwrap();
    let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
    let input = [0.3f32, -0.1, 0.7, 0.2, -0.5, 0.9, 0.1, 0.0];
    let truth = rnn.forward_blocking(&params, &Sequence::new(shape, &input)).unwrap().output;
    let plan = rnn.plan(shape, Mode::Inference).unwrap();
    let mut arena = vec![0f32; 64 + truth.len()];
    arena[..input.len()].copy_from_slice(&input);
    let arena = ctx.upload("arena", &arena).unwrap();
    let workspace = ctx.create_buffer("workspace", plan.sizes().workspace, BufferUsages::STORAGE).unwrap();
    let part = |offset| wgpu::BufferBinding { buffer: &arena, offset, size: None };
    let buffers =
        ForwardBuffers::new(params.as_entire_buffer_binding(), part(0), part(256), workspace.as_entire_buffer_binding());
    let forward = plan.bind_forward(&buffers).unwrap();
    assert!(forward.dispatches() > 1);
    let mut encoder = ctx.device().create_command_encoder(&Default::default());
    forward.encode(&mut encoder);
    ctx.queue().submit([encoder.finish()]);
    let [arena] = pollster::block_on(ctx.download([&arena])).unwrap();
    let worst = truth.iter().zip(&arena[64..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-6, "{worst}");
}
