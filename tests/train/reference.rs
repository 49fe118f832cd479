//! What a training step is, plainly, in float64.

use tidegate::reference::{backward, forward};
use tidegate::train::{Clip, Layout, Objective, Optimizer, Readout, TrainConfig};
use tidegate::{Cell, Mode, OutputGradients, RnnConfig, Sequence};

/// Targets and inputs of a chunk.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    pub tokens: Vec<u32>,
    pub features: Vec<f64>,
    pub labels: Vec<u32>,
    pub values: Vec<f64>,
    pub lengths: Option<Vec<u32>>,
    pub hold: Option<Vec<u32>>,
    /// Loss of every prediction, with nothing past a length or held.
    pub counted: Vec<bool>,
}

/// What a step without its update gives.
pub struct Outcome {
    pub loss: f64,
    pub predictions: Vec<f64>,
    /// The flat block.
    pub gradient: Vec<f64>,
    pub final_state: Vec<f64>,
}

/// The loss and its gradient in the predictions.
pub fn cross_entropy(predictions: &[f64], labels: &[u32], classes: usize, counted: &[bool]) -> (f64, Vec<f64>) {
    let count = counted.iter().filter(|&&counted| counted).count() as f64;
    let mut gradient = vec![0.0; predictions.len()];
    let mut loss = 0.0;
    for (row, logits) in predictions.chunks(classes).enumerate().filter(|(row, _)| counted[*row]) {
        let label = labels[row] as usize;
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
        loss += sum.ln() + largest - logits[label];
        for (class, x) in logits.iter().enumerate() {
            let one = f64::from(u8::from(class == label));
            gradient[row * classes + class] = ((x - largest).exp() / sum - one) / count;
        }
    }
    (if count > 0.0 { loss / count } else { 0.0 }, gradient)
}

/// The loss and its gradient in the predictions.
pub fn mean_squared_error(predictions: &[f64], values: &[f64], features: usize, counted: &[bool]) -> (f64, Vec<f64>) {
    let count = (features * counted.iter().filter(|&&counted| counted).count()) as f64;
    let mut gradient = vec![0.0; predictions.len()];
    let mut loss = 0.0;
    for i in (0..predictions.len()).filter(|i| counted[i / features]) {
        let off = predictions[i] - values[i];
        loss += off * off / count;
        gradient[i] = 2.0 * off / count;
    }
    (loss, gradient)
}

/// output = input·weightᵀ + bias.
pub fn linear(params: &[f64], input: &[f64], in_features: usize, out_features: usize) -> Vec<f64> {
    let (weight, bias) = params.split_at(in_features * out_features);
    let one = |x: &[f64], c: usize| {
        let row = &weight[c * in_features..(c + 1) * in_features];
        x.iter().zip(row).map(|(x, w)| x * w).sum::<f64>() + bias.get(c).copied().unwrap_or(0.0)
    };
    input.chunks(in_features).flat_map(|x| (0..out_features).map(move |c| one(x, c))).collect()
}

/// The gradients of [`linear`]: of its parameters and of its input.
pub fn linear_backward(
    params: &[f64],
    input: &[f64],
    d_output: &[f64],
    in_features: usize,
    out_features: usize,
) -> (Vec<f64>, Vec<f64>) {
    let mut d_params = vec![0.0; params.len()];
    let mut d_input = vec![0.0; input.len()];
    let bias = in_features * out_features;
    for (row, d) in d_output.chunks(out_features).enumerate() {
        for (c, d) in d.iter().enumerate() {
            for k in 0..in_features {
                d_params[c * in_features + k] += d * input[row * in_features + k];
                d_input[row * in_features + k] += d * params[c * in_features + k];
            }
            if params.len() > bias {
                d_params[bias + c] += d;
            }
        }
    }
    (d_params, d_input)
}

/// Rows of a table; zeros for a token beyond it.
pub fn embedding(table: &[f64], tokens: &[u32], features: usize) -> Vec<f64> {
    let row = |&token: &u32| table.chunks(features).nth(token as usize).map_or(vec![0.0; features], <[f64]>::to_vec);
    tokens.iter().flat_map(row).collect()
}

/// The gradient of the table.
pub fn embedding_backward(len: usize, tokens: &[u32], d_output: &[f64], features: usize) -> Vec<f64> {
    let mut gradient = vec![0.0; len];
    for (token, d) in tokens.iter().zip(d_output.chunks(features)) {
        if let Some(row) = gradient.chunks_mut(features).nth(*token as usize) {
            row.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
        }
    }
    gradient
}

/// Forward, loss and backward of a whole model.
pub fn step(
    cell: &dyn Cell,
    network: &RnnConfig,
    config: &TrainConfig,
    layout: &Layout,
    params: &[f64],
    chunk: &Chunk,
    state: Option<&[f64]>,
) -> Outcome {
    let shape = config.shape;
    let rnn = layout.find("rnn.weight_ih_l0").unwrap().range.start;
    let rnn_len = tidegate::ParamLayout::new(cell, network).unwrap().len();
    let head = layout.find("head.weight").unwrap().range.start;
    let table = config.vocabulary.map(|_| layout.find("embedding.weight").unwrap().range.clone());
    let input = match &table {
        Some(range) => embedding(&params[range.clone()], &chunk.tokens, network.input_size),
        None => chunk.features.clone(),
    };
    let mut seq = Sequence::new(shape, &input);
    (seq.lengths, seq.hold) = (chunk.lengths.as_deref(), chunk.hold.as_deref());
    seq.initial_state = state;
    let own = &params[rnn..rnn + rnn_len];
    let trace = forward(cell, network, own, &seq, Mode::Training).unwrap();

    // Where the head's input comes from, as indices into the output.
    let (hidden, width) = (network.hidden_size, network.output_size());
    let batch_row = |t: usize, b: usize| if network.batch_first { b * shape.seq_len + t } else { t * shape.batch_size + b };
    let read: Vec<usize> = match config.readout {
        Readout::EveryStep => (0..shape.rows() * width).collect(),
        Readout::Final => (0..shape.batch_size)
            .flat_map(|b| (0..width).map(move |column| (b, column)))
            .map(|(b, column)| {
                let backwards = column / hidden == 1 || network.direction == tidegate::Direction::Reverse;
                let length = chunk.lengths.as_ref().map_or(shape.seq_len, |lengths| lengths[b] as usize);
                batch_row(if backwards { 0 } else { length - 1 }, b) * width + column
            })
            .collect(),
    };
    let features: Vec<f64> = read.iter().map(|&at| trace.output.output[at]).collect();
    let predictions = linear(&params[head..], &features, width, config.out_features);
    let (loss, d_predictions) = match config.objective {
        Objective::CrossEntropy => cross_entropy(&predictions, &chunk.labels, config.out_features, &chunk.counted),
        Objective::MeanSquaredError => mean_squared_error(&predictions, &chunk.values, config.out_features, &chunk.counted),
    };
    let (d_head, d_features) = linear_backward(&params[head..], &features, &d_predictions, width, config.out_features);
    let mut d_output = vec![0.0; trace.output.output.len()];
    read.iter().zip(&d_features).for_each(|(&at, d)| d_output[at] += d);
    let d = OutputGradients { d_output: &d_output, d_final_state: None };
    let gradients = backward(cell, network, own, &seq, &trace, &d).unwrap();
    let mut gradient = vec![0.0; params.len()];
    if let Some(range) = table {
        let d_table = embedding_backward(range.len(), &chunk.tokens, &gradients.d_input, network.input_size);
        gradient[range].copy_from_slice(&d_table);
    }
    gradient[rnn..rnn + rnn_len].copy_from_slice(&gradients.d_params);
    gradient[head..].copy_from_slice(&d_head);
    Outcome { loss, predictions, gradient, final_state: trace.output.final_state }
}

/// Clips in place and gives the norm before.
pub fn clip(clip: Clip, gradient: &mut [f64]) -> f64 {
    let norm = gradient.iter().map(|d| d * d).sum::<f64>().sqrt();
    match clip {
        Clip::Norm(most) => {
            let scale = (f64::from(most) / (norm + 1e-6)).min(1.0);
            gradient.iter_mut().for_each(|d| *d *= scale);
        }
        Clip::Value(most) => gradient.iter_mut().for_each(|d| *d = d.clamp(-f64::from(most), f64::from(most))),
    }
    norm
}

/// Step number `step`, the first being 1, in place.
pub fn update(optimizer: &Optimizer, rate: f64, step: i32, params: &mut [f64], gradient: &[f64], moments: &mut [Vec<f64>; 2]) {
    let [first, second] = moments;
    for i in 0..params.len() {
        match *optimizer {
            Optimizer::Sgd { momentum, nesterov, weight_decay } => {
                let d = gradient[i] + weight_decay * params[i];
                first[i] = momentum * first[i] + d;
                params[i] -= rate * if nesterov { d + momentum * first[i] } else { first[i] };
            }
            Optimizer::Adam { betas, eps, weight_decay } | Optimizer::AdamW { betas, eps, weight_decay } => {
                let mut d = gradient[i];
                if let Optimizer::AdamW { .. } = optimizer {
                    params[i] *= 1.0 - rate * weight_decay;
                } else {
                    d += weight_decay * params[i];
                }
                first[i] = betas[0] * first[i] + (1.0 - betas[0]) * d;
                second[i] = betas[1] * second[i] + (1.0 - betas[1]) * d * d;
                let [first, second] = [first[i] / (1.0 - betas[0].powi(step)), second[i] / (1.0 - betas[1].powi(step))];
                params[i] -= rate * first / (second.sqrt() + eps);
            }
        }
    }
}
