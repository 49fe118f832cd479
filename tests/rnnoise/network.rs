//! RNNoise's network from the file `weights.rnn` of the crate nnnoiseless: three GRUs and three dense layers of 8-bit weights.
//!
//! Layers stand one after the other: inputs, units and activation, a byte each; the weights `[I, U]` of a dense layer, or
//! `[I, 3, U]` and `[U, 3, U]` of a GRU with gates z, r, h; the biases; all in 256ths. z keeps the state as ours does, r acts
//! before the product.

use tidegate::{Activation, Gru, ParamLayout, Params, Result, RnnConfig};

pub const FEATURES: usize = 42;
pub const BANDS: usize = 22;
/// Where our gates r, z, n are among theirs.
const GATES: [usize; 3] = [1, 0, 2];

pub struct Dense {
    inputs: usize,
    activation: Activation,
    /// `[I, U]`
    weights: Vec<f64>,
    bias: Vec<f64>,
}

pub struct GruLayer {
    pub cell: Gru,
    pub config: RnnConfig,
    pub params: Params,
}

pub struct Network {
    input_dense: Dense,
    vad_gru: GruLayer,
    noise_gru: GruLayer,
    denoise_gru: GruLayer,
    denoise_output: Dense,
    vad_output: Dense,
}

/// What the network says of every row of features.
pub struct Outcome {
    /// `[.., BANDS]`
    pub gains: Vec<f64>,
    /// `[..]`: how probably somebody speaks.
    pub vad: Vec<f64>,
}

/// The part of the file that is not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, len: usize) -> &[u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    fn weights(&mut self, len: usize) -> Vec<f64> {
        self.bytes(len).iter().map(|&byte| f64::from(byte as i8) / 256.0).collect()
    }

    /// Inputs, units and activation.
    fn header(&mut self) -> (usize, usize, Activation) {
        let header: Vec<usize> = self.bytes(3).iter().map(|&byte| byte.into()).collect();
        (header[0], header[1], [Activation::Tanh, Activation::Sigmoid, Activation::Relu][header[2]])
    }

    fn dense(&mut self) -> Dense {
        let (inputs, units, activation) = self.header();
        Dense { inputs, activation, weights: self.weights(inputs * units), bias: self.weights(units) }
    }

    fn gru(&mut self) -> Result<GruLayer> {
        let (inputs, units, activation) = self.header();
        let cell = Gru::reset_before().with_activations(Activation::Sigmoid, activation);
        let config = RnnConfig::new(inputs, units);
        let mut params = Params::zeros(&ParamLayout::new(&cell, &config)?);
        for (name, columns) in [("weight_ih_l0", inputs), ("weight_hh_l0", units)] {
            let theirs = self.weights(3 * columns * units);
            let mut ours = Vec::with_capacity(theirs.len());
            for gate in GATES {
                for unit in 0..units {
                    ours.extend((0..columns).map(|column| theirs[(3 * column + gate) * units + unit] as f32));
                }
            }
            params.set(name, &[3 * units, columns], &ours)?;
        }
        let theirs = self.weights(3 * units);
        let ours: Vec<f32> = GATES.iter().flat_map(|gate| &theirs[gate * units..][..units]).map(|&b| b as f32).collect();
        params.set("bias_ih_l0", &[3 * units], &ours)?;
        Ok(GruLayer { cell, config, params })
    }
}

impl Dense {
    fn run(&self, input: &[f64]) -> Vec<f64> {
        let row = |x: &[f64]| {
            let mut sums = self.bias.clone();
            for (x, weights) in x.iter().zip(self.weights.chunks_exact(self.bias.len())) {
                sums.iter_mut().zip(weights).for_each(|(sum, w)| *sum += w * x);
            }
            sums.into_iter().map(|sum| self.activation.value(sum)).collect::<Vec<_>>()
        };
        input.chunks_exact(self.inputs).flat_map(row).collect()
    }
}

/// Rows of several tensors side by side.
fn beside(parts: &[&[f64]], rows: usize) -> Vec<f64> {
    let row = |row| parts.iter().flat_map(move |part| part.chunks_exact(part.len() / rows).nth(row)).flatten();
    (0..rows).flat_map(row).copied().collect()
}

impl Network {
    pub fn new(file: &[u8]) -> Result<Self> {
        let mut reader = Reader(file);
        let network = Self {
            input_dense: reader.dense(),
            vad_gru: reader.gru()?,
            noise_gru: reader.gru()?,
            denoise_gru: reader.gru()?,
            denoise_output: reader.dense(),
            vad_output: reader.dense(),
        };
        assert!(reader.0.is_empty());
        Ok(network)
    }

    /// Rows of features through the network; `gru` runs one of its GRUs from a zero state.
    pub fn run(&self, features: &[f64], gru: impl Fn(&GruLayer, &[f64]) -> Vec<f64>) -> Outcome {
        let rows = features.len() / FEATURES;
        let dense = self.input_dense.run(features);
        let vad = gru(&self.vad_gru, &dense);
        let noise = gru(&self.noise_gru, &beside(&[&dense, &vad, features], rows));
        let denoise = gru(&self.denoise_gru, &beside(&[&vad, &noise, features], rows));
        Outcome { gains: self.denoise_output.run(&denoise), vad: self.vad_output.run(&vad) }
    }
}
