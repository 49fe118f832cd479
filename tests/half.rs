//! f16 storage against the reference: every cell and strategy, forward and backward, on a device that has f16 in shaders and on
//! one that has not.

mod common;

use std::sync::Arc;

use common::covering::pairwise;
use tidegate::check::Case;
use tidegate::{Cell, Context, Direction, Dtype, Error, Lstm, Mode, Params, Rnn, RnnConfig, SeqShape, Sequence, Strategy, cell};
use wgpu::Features;

/// Odd ones share a word with their neighbours.
const SIZES: [usize; 3] = [3, 17, 64];
const ROWS: [usize; 2] = [1, 5];
const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Bidirectional, Direction::Reverse];
/// I, H, T, B, layers, directions; batch-first, dropout, initial state, ragged, chunks.
const LEVELS: [usize; 11] = [3, 3, 2, 2, 2, 3, 2, 2, 2, 2, 2];

fn case(row: &[usize]) -> Case {
    let on = |factor: usize| row[factor] == 1;
    let config = RnnConfig::new(SIZES[row[0]], SIZES[row[1]])
        .with_num_layers(1 + row[4])
        .with_direction(DIRECTIONS[row[5]])
        .with_batch_first(on(6))
        .with_dropout(if on(7) { 0.3 } else { 0.0 });
    Case {
        initial_state: on(8),
        ragged: on(9),
        dispatch_flops: on(10).then_some(20_000),
        window_bytes: on(10).then_some(5_000),
        dtype: Dtype::F16,
        ..Case::new(config, [4, 9][row[2]], ROWS[row[3]])
    }
}

fn check(ctx: &Context, cell: &Arc<dyn Cell>, case: &Case) -> f64 {
    // Else persistent counts on so few workgroups that it refuses the larger cases.
    pollster::block_on(ctx.measure_residency()).unwrap();
    let outcomes = Strategy::all(ctx).into_iter().map(|strategy| {
        let outcome = pollster::block_on(case.check_gpu(ctx, cell, strategy));
        outcome.unwrap_or_else(|e| panic!("{} under {}: {e}\n{case:?}", cell.name(), strategy.name())).max_rel_err
    });
    outcomes.fold(0.0, f64::max)
}

/// Every cell, each with some of the rows of a covering array.
fn every_cell(ctx: &Context, rows_each: usize) {
    let rows = pairwise(&LEVELS, 3);
    let mut rows = rows.iter().cycle();
    for cell in cell::registry() {
        let mut worst = 0.0f64;
        for row in rows.by_ref().take(rows_each) {
            let mut case = case(row);
            if cell.name() == "binary_gate" {
                // Few enough values that all can stay clear of its jumps.
                (case.config.hidden_size, case.config.num_layers) = (case.config.hidden_size.min(17), 1);
            }
            worst = worst.max(check(ctx, &cell, &case));
        }
        println!("{}: largest relative error {worst:.1e}", cell.name());
    }
}

#[test]
fn with_f16_in_shaders() {
    let ctx = common::own_context();
    assert!(ctx.device().features().contains(Features::SHADER_F16), "this adapter has no f16: nothing is tested here");
    every_cell(&ctx, 3);
}

#[test]
fn packed_without() {
    every_cell(&common::without_f16(), 2);
}

/// The kernel of many rows' single steps, and streams in place.
#[test]
fn single_steps() {
    for ctx in [common::context(), common::without_f16()] {
        // Weights are read by fours where I and H are multiples of 4.
        let cases =
            [("lstm", 5, 17, 3), ("gru_reset_before", 8, 64, 2), ("gru", 5, 17, 65), ("lstm", 5, 300, 2), ("lstm", 8, 300, 1)];
        for (cell, input, hidden, batch) in cases {
            let cell = cell::by_name(cell).unwrap();
            let case = Case { dtype: Dtype::F16, ..Case::new(RnnConfig::new(input, hidden).with_num_layers(2), 1, batch) };
            check(&ctx, &cell, &case);
        }
    }
}

/// A stream's state stays f32: chunk by chunk it comes to what the whole sequence in f32 does, from the same numbers.
#[test]
fn sessions_keep_their_state_in_f32() {
    let (seq_len, batch_size) = (40, 3);
    for ctx in [common::context(), common::without_f16()] {
        for (steps, hidden) in [(1, 17), (1, 300), (8, 17)] {
            let config = RnnConfig::new(5, hidden);
            let whole = Rnn::new(&ctx, Lstm::default(), config.clone()).unwrap();
            let half = whole.clone().with_dtype(Dtype::F16).unwrap();
            assert_eq!((whole.dtype(), half.dtype()), (Dtype::F32, Dtype::F16));
            let mut params = Params::uniform(whole.param_layout(), 1);
            params.values_mut().iter_mut().for_each(|p| *p = Dtype::F16.round(*p));
            let input: Vec<f32> =
                common::uniform(2, seq_len * batch_size * 5, 1.0).iter().map(|&x| Dtype::F16.round(x as f32)).collect();
            let seq = Sequence::new(SeqShape { seq_len, batch_size }, &input);
            let truth = whole.forward_blocking(&whole.upload(&params).unwrap(), &seq).unwrap();

            let uploaded = half.upload(&params).unwrap();
            assert_eq!(uploaded.size(), (2 * params.values().len() as u64).next_multiple_of(4));
            let mut session = half.session(&uploaded, SeqShape { seq_len: steps, batch_size }).unwrap();
            let mut output = Vec::new();
            for chunk in input.chunks(steps * batch_size * 5) {
                output.extend(session.advance_blocking(chunk).unwrap());
            }
            assert_eq!(output.len(), truth.output.len());
            let [state] = pollster::block_on(ctx.download([session.state()])).unwrap();
            let furthest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let (off, state_off) = (furthest(&output, &truth.output), furthest(&state, &truth.final_state));
            assert!(off <= 3e-4 && off > 1e-6, "output is off by {off}, as f16 should be by about 2e-4");
            assert!(state_off <= 1e-5, "the state is off by {state_off}, as no f32 should be");
        }
    }
}

/// Whole calls: everything is f32 on the host, and half the bytes on the GPU.
#[test]
fn buffers_are_half_as_large() {
    let ctx = common::context();
    let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(3, 5)).unwrap();
    let shape = SeqShape { seq_len: 3, batch_size: 3 };
    let sizes = |rnn: &Rnn| rnn.plan(shape, Mode::Training).unwrap().sizes();
    let (f32s, f16s) = (sizes(&rnn), sizes(&rnn.clone().with_dtype(Dtype::F16).unwrap()));
    // Of an odd number the last has padding.
    assert_eq!((f32s.input, f16s.input), (4 * 27, 2 * 28));
    assert_eq!((f32s.output, f16s.output), (4 * 45, 2 * 46));
    assert_eq!((f32s.params, f16s.params), (4 * 200, 2 * 200));
    assert_eq!((f32s.d_params, f16s.d_params), (4 * 200, 4 * 200));
    assert_eq!(f32s.state, f16s.state);
}

/// What f16 cannot hold becomes infinite, and no kernel makes a NaN of it on the way in or out.
#[test]
fn too_large_for_f16() {
    for ctx in [common::context(), common::without_f16()] {
        let config = RnnConfig::new(1, 1).with_bias(false);
        let rnn = Rnn::new(&ctx, tidegate::Elman::linear(), config).unwrap().with_dtype(Dtype::F16).unwrap();
        let params = Params::from_values(rnn.param_layout(), vec![300.0, 1.0]).unwrap();
        let seq = Sequence::new(SeqShape { seq_len: 3, batch_size: 1 }, &[200.0, 200.0, -130_000.0]);
        let output = rnn.forward_blocking(&rnn.upload(&params).unwrap(), &seq).unwrap();
        assert_eq!(output.output[0], 60_000.0);
        assert!(output.output[1] > 65_504.0 && output.output[2] == f32::NEG_INFINITY, "{:?}", output.output);
    }
}

#[test]
fn unknown_names_are_refused() {
    assert_eq!("f16".parse::<Dtype>().unwrap(), Dtype::F16);
    let error = "bf16".parse::<Dtype>().unwrap_err();
    assert!(matches!(&error, Error::UnknownName { .. }) && error.to_string().contains("f32, f16"), "{error}");
}
