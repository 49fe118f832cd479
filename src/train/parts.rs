//! The pieces of a model at a shape, and how a step runs through them.

use wgpu::ComputePass;

use super::config::TrainConfig;
use super::guard::Guard;
use super::layout::Layout;
use super::readout::{FinalReadout, Readout};
use super::{Clip, Clipping, Embedding, EmbeddingShape, Linear, LinearShape, Loss, LossShape, Optimizer, Pass, Update};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::network::sequence::Mode;
use crate::plan::{Backward, Forward, Plan};
use crate::rnn::Rnn;

/// What one part of a step records.
#[derive(Debug)]
pub(super) enum Work {
    Pass(Pass),
    Forward(Forward),
    Backward(Backward),
}

impl Work {
    pub fn dispatch(&self, pass: &mut ComputePass<'_>) {
        match self {
            Self::Pass(work) => work.dispatch(pass),
            Self::Forward(work) => work.dispatch(pass),
            Self::Backward(work) => work.dispatch(pass),
        }
    }

    pub fn dispatches(&self) -> usize {
        match self {
            Self::Pass(work) => work.dispatches(),
            Self::Forward(work) => work.dispatches(),
            Self::Backward(work) => work.dispatches(),
        }
    }
}

/// Elements of what is converted around a network of f16.
pub(super) struct HalfSizes {
    pub params: u64,
    pub input: u64,
    pub output: u64,
}

/// The parts of a model at a shape.
pub(super) struct Parts {
    pub ctx: Context,
    pub half: Option<HalfSizes>,
    pub embedding: Option<Embedding>,
    pub training: Plan,
    pub inference: Plan,
    pub readout: Option<FinalReadout>,
    pub head: Linear,
    pub loss: Loss,
    /// The norm of all gradients, and what bounds them by it.
    pub norm: Clipping,
    pub clipping: Option<Clipping>,
    pub guard: Guard,
    pub update: Update,
}

impl Parts {
    pub fn new(rnn: &Rnn, config: &TrainConfig, optimizer: Optimizer, layout: &Layout) -> Result<Self> {
        let (ctx, network, rows) = (rnn.context(), rnn.config(), config.shape.rows());
        let embedding = config
            .vocabulary
            .map(|vocabulary| Embedding::new(ctx, EmbeddingShape { rows, vocabulary, features: network.input_size }));
        let head = LinearShape {
            rows: config.predictions(),
            in_features: network.output_size(),
            out_features: config.out_features,
            bias: config.head_bias,
        };
        let loss = LossShape { rows: config.predictions(), features: config.out_features };
        let half = (rnn.dtype() == Dtype::F16).then(|| HalfSizes {
            params: rnn.param_layout().len() as u64,
            input: (rows * network.input_size) as u64,
            output: (rows * network.output_size()) as u64,
        });
        Ok(Self {
            ctx: ctx.clone(),
            embedding: embedding.transpose()?,
            training: rnn.plan(config.shape, Mode::Training)?,
            inference: rnn.plan(config.shape, Mode::Inference)?,
            readout: (config.readout == Readout::Final).then(|| FinalReadout::new(ctx, network, config.shape)),
            head: Linear::new(ctx, head)?,
            loss: Loss::new(ctx, config.objective, loss)?,
            norm: match config.clip {
                Some(clip @ Clip::Norm(_)) => Clipping::new(ctx, clip, layout.len())?,
                _ => Clipping::measuring(ctx, layout.len())?,
            },
            clipping: match config.clip {
                Some(clip @ Clip::Value(_)) => Some(Clipping::new(ctx, clip, layout.len())?),
                _ => None,
            },
            guard: Guard::new(ctx, optimizer, half.is_some().then_some(config.loss_scale))?,
            update: Update::new(ctx, optimizer, layout.len())?,
            half,
        })
    }

    pub fn workspace(&self) -> u64 {
        let pieces = [
            self.training.sizes().workspace,
            self.inference.sizes().workspace,
            self.embedding.as_ref().map_or(0, |embedding| embedding.sizes().workspace),
            self.head.sizes().workspace,
            self.loss.sizes().workspace,
            self.norm.sizes().workspace,
        ];
        pieces.into_iter().fold(0, u64::max)
    }
}
