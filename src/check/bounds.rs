//! The claim of `kernel.rs` that no index of ours leaves its binding, put to the test. Kernels run as they are, and with wgpu's checks
//! and every index of a buffer clamped: one that is out of bounds then reads another value or overwrites the last one, so that the
//! bits differ.

use std::sync::Arc;

use crate::cell::{Cell, Lstm, by_name};
use crate::check::{Case, CaseData};
use crate::train::{Batch, Clip, Inputs, Layout, Objective, Optimizer, Targets, TrainConfig, Trainer, Weights};
use crate::{Context, Dtype, Gradients, Output, OutputGradients, Params, Rnn, RnnConfig, SeqShape, Sequence, Strategy, Tile};

/// WGSL with `name[i]` made `name[min(i, arrayLength(&name) - 1u)]` for each of these names.
pub(crate) fn clamped(wgsl: &str, names: &[&str]) -> String {
    let mut result = String::new();
    let mut rest = wgsl;
    // Where the last index of each clamped access that is open goes, by the depth of its brackets.
    let (mut open, mut depth): (Vec<(usize, &str)>, usize) = (Vec::new(), 0);
    while let Some(next) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        let word = rest.split(|c| !is_word(c)).next().unwrap_or_default();
        let token = if word.is_empty() { &rest[..next.len_utf8()] } else { word };
        rest = &rest[token.len()..];
        if names.contains(&token) && rest.starts_with('[') {
            open.push((depth, token));
            depth += 1;
            rest = &rest[1..];
            result += &format!("{token}[min(");
            continue;
        }
        match token {
            "[" => depth += 1,
            "]" => {
                depth -= 1;
                if let Some((_, name)) = open.pop_if(|(at, _)| *at == depth) {
                    result += &format!(", arrayLength(&{name}) - 1u)");
                }
            }
            _ => {}
        }
        result += token;
    }
    result
}

#[test]
fn indices_are_clamped() {
    let wgsl = "let x = a[b[i] + c[2]] + s.a[3] + ab[1];";
    let expected = "let x = a[min(b[min(i, arrayLength(&b) - 1u)] + c[2], arrayLength(&a) - 1u)] + s.a[3] + ab[1];";
    assert_eq!(clamped(wgsl, &["a", "b"]), expected);
}

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
        hold: data.hold.as_deref(),
        dropout: data.dropout,
        ..Sequence::new(case.shape, &input)
    };
    let (d_output, d_final) = (narrow(&data.d_output), data.d_final_state.as_deref().map(narrow));
    let d = OutputGradients { d_output: &d_output, d_final_state: d_final.as_deref() };
    let inference = rnn.forward_blocking(&params, &seq).unwrap();
    let (training, gradients) = rnn.backward_blocking(&params, &seq, &d).unwrap();
    (inference, training, gradients)
}

/// Sequences and single steps, ragged sizes, a tile of GPUs, and f16. Held weights (H of 32 and more) take a CPU adapter minutes to
/// compile with clamps and are left out. A cell of two phases; with TIDEGATE_FULL=1 also one with parameters of each unit.
#[test]
fn networks_index_within_their_bindings() {
    let contexts = both();
    let stacked = RnnConfig::new(3, 7).with_num_layers(2).with_bidirectional(true).with_dropout(0.3).with_batch_first(true);
    let peepholes: Arc<dyn Cell> = Arc::new(Lstm::default().with_peepholes(true));
    let mut cells = vec![by_name("gru_reset_before").unwrap()];
    cells.extend(std::env::var_os("TIDEGATE_FULL").is_some_and(|v| v == "1").then_some(peepholes));
    let all = Strategy::all(&contexts[0]);
    let (batched, resident, stepwise) = ([Strategy::Batched], [Strategy::Resident], [Strategy::Stepwise]);
    let cases = [
        (Case::new(RnnConfig::new(5, 20).with_num_layers(2), 6, 9), &all[..]),
        (Case { tile: Some(Tile::Of32x32), ..Case::new(RnnConfig::new(8, 12), 4, 5) }, &batched),
        (Case { dtype: Dtype::F16, ..Case::new(stacked, 5, 3) }, &resident),
        (Case::new(RnnConfig::new(6, 10), 1, 3), &stepwise),
        (Case::new(RnnConfig::new(6, 10), 1, 70), &stepwise),
    ];
    for (cell, (case, strategies)) in cells.iter().flat_map(|cell| cases.iter().map(move |case| (cell, case))) {
        let data = case.data(&**cell).unwrap();
        for &strategy in *strategies {
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
