//! Sequences far longer than what is kept of them: inference in bounded memory, by windows and by chunks.

mod common;

use tidegate::{Elman, Gru, Lstm, Mode, Params, Rnn, RnnConfig, ScheduleOptions, SeqShape, Sequence, Strategy, reference};

/// Bounds the workspace to a window of input products, and cuts it into several dispatches.
fn bounded(rnn: &Rnn, strategy: Strategy) -> Rnn {
    let options = ScheduleOptions::default().with_strategy(strategy);
    rnn.clone().with_schedule(options.with_window_bytes(1 << 20).with_dispatch_flops(2_000_000))
}

#[test]
fn a_hundred_thousand_steps() {
    let ctx = common::context();
    let shape = SeqShape { seq_len: 100_000, batch_size: 1 };
    let rnn = Rnn::new(&ctx, Gru::default(), RnnConfig::new(2, 12)).unwrap();
    let host = Params::uniform(rnn.param_layout(), 3);
    let params = rnn.upload(&host).unwrap();
    let input: Vec<f32> = common::uniform(4, shape.rows() * 2, 1.0).iter().map(|&v| v as f32).collect();
    let wide: Vec<f64> = input.iter().map(|&v| v.into()).collect();
    let weights: Vec<f64> = host.values().iter().map(|&v| v.into()).collect();
    let seq = Sequence::new(shape, &wide);
    let truth = reference::forward(rnn.cell(), rnn.config(), &weights, &seq, Mode::Inference).unwrap().output.output;
    for strategy in Strategy::all(&ctx) {
        let rnn = bounded(&rnn, strategy);
        let workspace = rnn.plan(shape, Mode::Inference).unwrap().sizes().workspace;
        // The window, a mark for each step, and for persistent as much exchange as its dispatches need.
        assert!(workspace < 3 << 20, "{strategy:?}: {workspace} bytes");
        let output = rnn.forward_blocking(&params, &Sequence::new(shape, &input)).unwrap().output;
        let worst = truth.iter().zip(&output).map(|(a, &b)| (a - f64::from(b)).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{strategy:?}: {worst}");
    }
}

/// Above the first layer too, and whatever T: in one direction the caller's output carries one layer's to the next.
#[test]
fn the_workspace_hardly_grows() {
    let ctx = common::context();
    let stacked = RnnConfig::new(8, 64).with_num_layers(3);
    let rnn = Rnn::new(&ctx, Lstm::default(), stacked).unwrap();
    for strategy in [Strategy::Stepwise, Strategy::Batched, Strategy::Resident] {
        let size = |seq_len| {
            let plan = bounded(&rnn, strategy).plan(SeqShape { seq_len, batch_size: 4 }, Mode::Inference).unwrap();
            plan.sizes().workspace
        };
        // Two words a step and row: its reset, and its link where steps are held.
        let marks = 2 * 4 * 4 * (50_000 - 2_000);
        assert!(size(50_000) <= size(2_000) + marks + 512, "{strategy:?}");
    }
}

/// The reserve of all steps has no bound but the device's, and the error names both.
#[test]
fn training_beyond_the_device_is_refused() {
    let ctx = common::context();
    let rnn = Rnn::new(&ctx, Elman::tanh(), RnnConfig::new(1, 512)).unwrap();
    let shape = SeqShape { seq_len: 1_000_000, batch_size: 1 };
    let error = rnn.plan(shape, Mode::Training).unwrap_err().to_string();
    let numbers = error.split(|c: char| !c.is_ascii_digit()).filter(|n| n.len() > 6).count();
    assert!(error.contains("truncated BPTT") && numbers == 2, "{error}");
}
