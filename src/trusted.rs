//! The claim of `kernel.rs` that no index of ours leaves its binding, put to the test: wgpu's runtime checks would turn such a read
//! into another value and drop such a write, so kernels with and without them must give the same bits.

use std::sync::Arc;

use crate::cell::{Cell, Lstm, by_name};
use crate::check::{Case, CaseData};
use crate::train::{Batch, Clip, Inputs, Layout, Objective, Optimizer, Targets, TrainConfig, Trainer, Weights};
use crate::{Context, Dtype, Gradients, Output, OutputGradients, Params, Rnn, RnnConfig, SeqShape, Sequence, Strategy, Tile};

/// A device without checks in our kernels, as everybody has it, and one with them.
fn both() -> [Context; 2] {
    let [trusted, checked] = [(); 2].map(|()| pollster::block_on(Context::request()).expect("this needs an adapter"));
    [trusted, checked.with_checks()]
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// In inference, then in training with all gradients.
fn run(ctx: &Context, cell: &Arc<dyn Cell>, case: &Case, data: &CaseData, strategy: Strategy) -> (Output, Output, Gradients) {
    let rnn = Rnn::new(ctx, cell.clone(), case.config.clone()).unwrap().with_strategy(strategy);
    let rnn = rnn.with_dtype(case.dtype).unwrap();
    let rnn = case.tile.map_or(rnn.clone(), |tile| rnn.with_tile(tile));
    let params = rnn.upload(&Params::from_values(rnn.param_layout(), narrow(&data.params)).unwrap()).unwrap();
    let (input, initial) = (narrow(&data.input), data.initial_state.as_deref().map(narrow));
    let seq = Sequence {
        initial_state: initial.as_deref(),
        lengths: data.lengths.as_deref(),
        reset: data.reset.as_deref(),
        dropout: data.dropout,
        ..Sequence::new(case.shape, &input)
    };
    let (d_output, d_final) = (narrow(&data.d_output), data.d_final_state.as_deref().map(narrow));
    let d = OutputGradients { d_output: &d_output, d_final_state: d_final.as_deref() };
    let inference = rnn.forward_blocking(&params, &seq).unwrap();
    let (training, gradients) = rnn.backward_blocking(&params, &seq, &d).unwrap();
    (inference, training, gradients)
}

/// Sequences and single steps, ragged sizes, whole networks on a tile of GPUs, and f16.
#[test]
fn networks_index_within_their_bindings() {
    let contexts = both();
    let stacked = RnnConfig::new(3, 7).with_num_layers(2).with_bidirectional(true).with_dropout(0.3).with_batch_first(true);
    let peepholes: Arc<dyn Cell> = Arc::new(Lstm::default().with_peepholes(true));
    let cells = [peepholes, by_name("gru_reset_before").unwrap()];
    let cases = [
        Case::new(RnnConfig::new(5, 35).with_num_layers(2), 6, 9),
        Case { tile: Some(Tile::Of32x32), ..Case::new(RnnConfig::new(8, 12), 4, 5) },
        Case { dtype: Dtype::F16, ..Case::new(stacked, 5, 3) },
        Case::new(RnnConfig::new(6, 10), 1, 3),
        Case::new(RnnConfig::new(6, 10), 1, 70),
        Case::new(RnnConfig::new(7, 210), 1, 2),
    ];
    for (cell, case) in cells.iter().flat_map(|cell| cases.iter().map(move |case| (cell, case))) {
        let data = case.data(&**cell).unwrap();
        let single = case.shape.seq_len == 1;
        for strategy in Strategy::all(&contexts[0]).into_iter().filter(|&s| !single || s == Strategy::Stepwise) {
            let repairs = || contexts.each_ref().map(Context::repairs);
            // What was repaired was summed in another order.
            let attempt = || {
                let before = repairs();
                let results = contexts.each_ref().map(|ctx| run(ctx, cell, case, &data, strategy));
                (repairs() == before).then_some(results)
            };
            let [trusted, checked] = (0..10).find_map(|_| attempt()).expect("a run that need not be repaired");
            assert!(trusted == checked, "{} under {}: {case:?}", cell.name(), strategy.name());
        }
    }
}

#[test]
fn training_indexes_within_its_bindings() {
    let contexts = both();
    let shape = SeqShape { seq_len: 5, batch_size: 3 };
    let (vocabulary, classes) = (11, 7);
    for clip in [Clip::Norm(0.1), Clip::Value(0.01)] {
        let results = contexts.each_ref().map(|ctx| {
            let rnn = Rnn::new(ctx, Lstm::default(), RnnConfig::new(6, 9)).unwrap();
            let config = TrainConfig::new(shape, Objective::CrossEntropy, classes).with_vocabulary(vocabulary);
            let config = config.with_carry_state(true).with_ragged(true).with_clip(clip);
            let weights = Weights::init(&Layout::new(&rnn, &config).unwrap(), 1);
            let mut trainer = Trainer::new(&rnn, &config, Optimizer::adam(), &weights).unwrap();
            for step in 0..4 {
                let tokens: Vec<u32> = (0..shape.rows() as u32).map(|n| (7 * n + step) % vocabulary as u32).collect();
                let labels: Vec<u32> = tokens.iter().map(|token| token % classes as u32).collect();
                let batch = Batch::new(Inputs::Tokens(&tokens), Targets::Labels(&labels)).with_lengths(&[5, 1, 3]);
                trainer.write_batch(&batch).unwrap();
                trainer.step(0.01).unwrap();
            }
            (trainer.losses_blocking().unwrap(), trainer.weights_blocking().unwrap().values().to_vec())
        });
        assert!(results[0] == results[1], "{clip:?}: {results:?}");
    }
}
