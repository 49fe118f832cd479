//! Initial weights: PyTorch's, and what is said to help gradients.

use clap::ValueEnum;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidegate::{Cell, Params};

use crate::Result;

/// Where recurrent weights start. Inputs' weights, biases and the head start as in PyTorch unless a line says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Init {
    /// PyTorch's default: uniform in ±1/√H.
    Uniform,
    /// Each gate's block of `weight_hh` is a random orthogonal matrix (Saxe et al. 2014).
    Orthogonal,
    /// Each gate's block of `weight_hh` is the identity, biases are 0, the inputs' weights have deviation 0.001 (Le et al. 2015).
    Identity,
    /// The gate that copies starts with a bias of 1 towards copying: f of lstm (Gers et al. 2000), z of gru, G of binary_gate.
    Keep,
    /// The same with a bias of ln(lag), so that a unit keeps about 1/e over the lag (after Tallec and Ollivier 2018).
    Chrono,
}

impl Init {
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Orthogonal => "orthogonal",
            Self::Identity => "identity",
            Self::Keep => "keep",
            Self::Chrono => "chrono",
        }
    }
}

/// Overwrites PyTorch's uniform values of a network of one layer, which will have to remember over `lag` steps. Refuses [`Init::Keep`]
/// and [`Init::Chrono`] of a cell that has no gate to copy with.
pub fn init(params: &mut Params, cell: &dyn Cell, init: Init, lag: usize, seed: u64) -> Result<()> {
    let range = |name: &str| Ok::<_, tidegate::Error>(params.layout().find(name)?.range.clone());
    let [weight_ih, weight_hh] = [range("weight_ih_l0")?, range("weight_hh_l0")?];
    let [bias_ih, bias_hh] = [range("bias_ih_l0")?, range("bias_hh_l0")?];
    let hidden = bias_ih.len() / cell.spec().gates.len();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Streams 0 and 1 of a seed are those of the uniform values.
    rng.set_stream(2);
    match init {
        Init::Uniform => {}
        Init::Orthogonal => *params = params.clone().with_orthogonal_weights(seed),
        Init::Identity => {
            let values = params.values_mut();
            for block in values[weight_hh].chunks_exact_mut(hidden * hidden) {
                block.fill(0.0);
                block.iter_mut().step_by(hidden + 1).for_each(|w| *w = 1.0);
            }
            values[weight_ih].iter_mut().for_each(|w| *w = 0.001 * normal(&mut rng) as f32);
            values[bias_ih].fill(0.0);
            values[bias_hh].fill(0.0);
        }
        Init::Keep | Init::Chrono => {
            let bias = if init == Init::Keep { 1.0 } else { (lag as f32).ln() };
            let (gate, bias) = match cell.name() {
                "lstm" => ("f", bias),
                "gru" => ("z", bias),
                // A gate of 1 renews.
                "binary_gate" => ("g", -bias),
                other => return Err(format!("{other} has no gate that copies: it cannot start as {}", init.name()).into()),
            };
            *params = params.clone().with_gate_bias(cell, gate, bias)?;
        }
    }
    Ok(())
}

/// A number of mean 0 and deviation 1 (Box and Muller).
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
