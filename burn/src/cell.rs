//! Burn's options as tidegate's cells.

use burn::nn::activation::Activation as BurnActivation;
use tidegate::{Activation, Cell, Elman, Gru, Lstm, Rnn, RnnConfig};

use crate::device::Engine;
use crate::error::{Error, Result};

/// Which cell runs, with its options.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Lstm(Lstm),
    Gru(Gru),
    Rnn(Elman),
}

impl Kind {
    /// G: gates in tidegate's layout.
    pub fn gates(&self) -> usize {
        match self {
            Self::Lstm(_) => 4,
            Self::Gru(_) => 3,
            Self::Rnn(_) => 1,
        }
    }

    /// S: h, and an LSTM's c.
    pub fn states(&self) -> usize {
        if matches!(self, Self::Lstm(_)) { 2 } else { 1 }
    }

    /// Refuses options that mean nothing.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Lstm(cell) => cell.validate()?,
            Self::Gru(cell) => cell.validate()?,
            Self::Rnn(cell) => cell.validate()?,
        }
        Ok(())
    }

    pub fn rnn(&self, engine: &Engine, config: &RnnConfig) -> Result<Rnn> {
        let (ctx, config) = (&engine.ctx, config.clone());
        Ok(match self.clone() {
            Self::Lstm(cell) => Rnn::new(ctx, cell, config)?,
            Self::Gru(cell) => Rnn::new(ctx, cell, config)?,
            Self::Rnn(cell) => Rnn::new(ctx, cell, config)?,
        })
    }
}

/// The same function in tidegate. Burn's Softplus is linear above its threshold, where the two are equal in f32.
pub(crate) fn activation(burn: &BurnActivation) -> Result<Activation> {
    Ok(match burn {
        BurnActivation::Sigmoid(_) => Activation::Sigmoid,
        BurnActivation::Tanh(_) => Activation::Tanh,
        BurnActivation::Relu(_) => Activation::Relu,
        BurnActivation::Identity(_) => Activation::IDENTITY,
        BurnActivation::Softsign(_) => Activation::Softsign,
        BurnActivation::LeakyRelu(f) => Activation::LeakyRelu { alpha: f.negative_slope as f32 },
        BurnActivation::Elu(f) => Activation::Elu { alpha: f.alpha as f32 },
        BurnActivation::ThresholdedRelu(f) => Activation::ThresholdedRelu { alpha: f.alpha as f32 },
        BurnActivation::HardSigmoid(f) => Activation::HardSigmoid { alpha: f.alpha as f32, beta: f.beta as f32 },
        BurnActivation::Softplus(f) if f.beta == 1.0 && f.threshold >= 20.0 => Activation::Softplus,
        other => {
            return Err(Error::Unsupported(format!(
                "tidegate has no activation {other:?}; it has Sigmoid, Tanh, Relu, Identity, Softsign, LeakyRelu, Elu, ThresholdedRelu, \
                 HardSigmoid, and Softplus with beta 1 and a threshold of 20 or more"
            )));
        }
    })
}
