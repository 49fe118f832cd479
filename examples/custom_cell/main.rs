//! A cell of one's own: [`MinimalGated`], its math on the CPU in `minimal_gated.rs` and on the GPU in `minimal_gated.wgsl`.
//! First tidegate's battery is run on it, then a network of it learns for two steps.
//!
//! `cargo run --example custom_cell`

mod minimal_gated;

use std::error::Error;

use minimal_gated::MinimalGated;
use tidegate::check::check_cell;
use tidegate::{Context, OutputGradients, Params, Rnn, RnnConfig, SeqShape, Sequence};

const SHAPE: SeqShape = SeqShape { seq_len: 12, batch_size: 4 };
const HIDDEN_SIZE: usize = 8;
const LEARNING_RATE: f32 = 2.0;

fn main() -> Result<(), Box<dyn Error>> {
    let ctx = pollster::block_on(Context::request())?;

    // Finite differences against `backward`, `forward` and `backward` against the WGSL: do this before you train.
    println!("{}", pollster::block_on(check_cell(&ctx, MinimalGated))?);

    // The task: every unit shows the input of two steps before.
    let rnn = Rnn::new(&ctx, MinimalGated, RnnConfig::new(1, HIDDEN_SIZE))?;
    let input: Vec<f32> = (0..SHAPE.rows()).map(|k| (0.7 * k as f32).sin()).collect();
    let seq = Sequence::new(SHAPE, &input);
    let target = |index: usize| (index / HIDDEN_SIZE).checked_sub(2 * SHAPE.batch_size).map_or(0.0, |row| input[row]);

    let mut weights = Params::uniform(rnn.param_layout(), 1);
    let params = rnn.upload(&weights)?;
    let mut losses = Vec::new();
    for step in 0..3 {
        let run = rnn.forward_training_blocking(&params, &seq)?;
        let errors: Vec<f32> = run.output().output.iter().enumerate().map(|(index, y)| y - target(index)).collect();
        let loss = errors.iter().map(|e| e * e).sum::<f32>() / errors.len() as f32;
        println!("mean squared error after {step} steps: {loss:.6}");
        losses.push(loss);

        // The loss's gradient in the output goes in, that of the parameters comes out.
        let d_output: Vec<f32> = errors.iter().map(|e| 2.0 * e / errors.len() as f32).collect();
        let d = OutputGradients { d_output: &d_output, d_final_state: None };
        let gradients = run.backward_blocking(&d)?;
        for (weight, d) in weights.values_mut().iter_mut().zip(&gradients.d_params) {
            *weight -= LEARNING_RATE * d;
        }
        rnn.write_params(&params, &weights)?;
    }
    if !losses.is_sorted_by(|before, after| after < before) {
        return Err(format!("the loss did not fall: {losses:?}").into());
    }
    Ok(())
}
