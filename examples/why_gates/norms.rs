//! How much of a gradient arrives: the norm of dh_T/dh_t over lags T − t, by the library's own BPTT.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tidegate::{OutputGradients, Params, Rnn, SeqShape, Sequence};

use crate::Result;
use crate::init::normal;

/// What arrives at each of a state's parts, over some rows of data.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    pub lag: usize,
    /// One for each state of the cell, h first: the root of the mean of |vᵀ ∂h_T/∂state_t|² over rows, each of which has a unit vector v
    /// of its own. Were v all directions, this would be ‖∂h_T/∂state_t‖ / √H in Frobenius' norm: 1 for an orthogonal matrix.
    pub of_state: Vec<f64>,
}

impl Norm {
    /// Norm of the whole state, as one vector.
    pub fn whole(&self) -> f64 {
        self.of_state.iter().map(|norm| norm * norm).sum::<f64>().sqrt()
    }
}

/// Unit vectors `[rows, H]` in random directions.
pub fn directions(rows: usize, hidden: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut vectors = Vec::with_capacity(rows * hidden);
    for _ in 0..rows {
        let vector: Vec<f64> = (0..hidden).map(|_| normal(&mut rng)).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        vectors.extend(vector.iter().map(|x| (x / norm) as f32));
    }
    vectors
}

/// Runs the rows of `inputs` `[t + the longest lag, B, I]` up to step t, then through every lag from there, and a gradient `vectors`
/// `[B, H]` in h back to step t. One forward and one backward for all lags: each has rows of its own, of its length.
pub fn norms(rnn: &Rnn, params: &Params, inputs: &[f32], t: usize, lags: &[usize], vectors: &[f32]) -> Result<Vec<Norm>> {
    let config = rnn.config();
    let (hidden, states) = (config.hidden_size, rnn.cell_spec().states.len());
    let rows = vectors.len() / hidden;
    let longest = lags.iter().copied().max().ok_or("no lags to measure gradients over")?;
    let params = rnn.upload(params)?;
    let (before, window) = inputs.split_at(t * rows * config.input_size);
    let state = if t == 0 {
        vec![0.0; states * rows * hidden]
    } else {
        rnn.forward_blocking(&params, &Sequence::new(SeqShape { seq_len: t, batch_size: rows }, before))?.final_state
    };

    // Everything once for each lag.
    let shape = SeqShape { seq_len: longest, batch_size: rows * lags.len() };
    let repeat = |block: &[f32], len: usize| block.chunks_exact(len).flat_map(|part| part.repeat(lags.len())).collect::<Vec<_>>();
    let input = repeat(window, rows * config.input_size);
    let state = repeat(&state, rows * hidden);
    let lengths: Vec<u32> = lags.iter().flat_map(|&lag| vec![lag as u32; rows]).collect();
    let mut d_final = vectors.repeat(lags.len());
    d_final.resize(state.len(), 0.0);
    let sequence = Sequence::new(shape, &input).with_initial_state(&state).with_lengths(&lengths);
    let d_output = vec![0.0; shape.rows() * hidden];
    let d = OutputGradients { d_output: &d_output, d_final_state: Some(&d_final) };
    let (_, gradients) = rnn.backward_blocking(&params, &sequence, &d)?;

    let block = rows * hidden;
    let squares = |part: &[f32]| part.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    let norm = |part: &[f32]| (squares(part) / rows as f64).sqrt();
    let of_lag = |(k, &lag): (usize, &usize)| {
        let of_state = gradients.d_initial_state.chunks_exact(block * lags.len()).map(|state| norm(&state[k * block..][..block]));
        Norm { lag, of_state: of_state.collect() }
    };
    Ok(lags.iter().enumerate().map(of_lag).collect())
}
