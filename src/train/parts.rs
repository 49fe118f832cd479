//! The pieces of a model at a shape, and how a step runs through them.

use wgpu::ComputePass;

use super::buffers::{Buffers, part, whole};
use super::config::TrainConfig;
use super::guard::{Guard, GuardBuffers};
use super::layout::Layout;
use super::readout::{FinalReadout, Readout};
use super::{
    Clip, ClipBuffers, Clipping, Embedding, EmbeddingBackward, EmbeddingForward, EmbeddingShape, Linear, LinearBackward,
    LinearForward, LinearShape, Loss, LossBuffers, LossShape, Optimizer, Pass, Update, UpdateBuffers,
};
use crate::error::Result;
use crate::network::sequence::Mode;
use crate::plan::{Backward, BackwardBuffers, Forward, Plan};
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

/// The parts of a model at a shape.
pub(super) struct Parts {
    pub embedding: Option<Embedding>,
    pub training: Plan,
    pub inference: Plan,
    pub readout: Option<FinalReadout>,
    pub head: Linear,
    pub loss: Loss,
    /// The norm of all gradients, and what bounds them by it.
    norm: Clipping,
    clipping: Option<Clipping>,
    guard: Guard,
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
        Ok(Self {
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
            guard: Guard::new(ctx, optimizer, false)?,
            update: Update::new(ctx, optimizer, layout.len())?,
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

    /// From inputs to the loss and the gradient of the predictions, through one of the plans.
    pub fn bind_forward(&self, plan: &Plan, all: &Buffers, layout: &Layout) -> Result<Vec<Work>> {
        let mut work = Vec::new();
        if let (Some(embedding), Some(tokens), Some(range)) = (&self.embedding, &all.tokens, layout.embedding()) {
            let buffers = EmbeddingForward { params: part(&all.params, range), tokens: whole(tokens), output: whole(&all.input) };
            work.push(Work::Pass(embedding.bind_forward(&buffers)?));
        }
        work.push(Work::Forward(plan.bind_forward(&all.rnn_forward(layout))?));
        if let (Some(readout), Some((features, _))) = (&self.readout, &all.features) {
            let lengths = all.lengths.as_ref().map(whole);
            work.push(Work::Pass(readout.bind_forward(lengths, whole(&all.output), whole(features))?));
        }
        let [input, _] = all.head_input();
        let buffers =
            LinearForward { params: part(&all.params, layout.head()), input: whole(input), output: whole(&all.prediction) };
        work.push(Work::Pass(self.head.bind_forward(&buffers)?));
        let buffers = LossBuffers {
            prediction: whole(&all.prediction),
            targets: whole(&all.targets),
            mask: Some(whole(&all.mask)),
            d_prediction: whole(&all.d_prediction),
            loss: whole(&all.loss),
            workspace: whole(&all.workspace),
        };
        work.push(Work::Pass(self.loss.bind(&buffers)?));
        Ok(work)
    }

    /// From the gradient of the predictions to new parameters.
    pub fn bind_backward(&self, all: &Buffers, layout: &Layout) -> Result<Vec<Work>> {
        let [input, d_input] = all.head_input();
        let buffers = LinearBackward {
            params: part(&all.params, layout.head()),
            input: whole(input),
            d_output: whole(&all.d_prediction),
            d_params: part(&all.d_params, layout.head()),
            d_input: Some(whole(d_input)),
            workspace: whole(&all.workspace),
        };
        let mut work = vec![Work::Pass(self.head.bind_backward(&buffers)?)];
        if let (Some(readout), Some((_, d_features))) = (&self.readout, &all.features) {
            let lengths = all.lengths.as_ref().map(whole);
            work.push(Work::Pass(readout.bind_backward(lengths, whole(d_features), whole(&all.d_output))?));
        }
        let d_params = part(&all.d_params, layout.rnn());
        let buffers = BackwardBuffers {
            d_input: all.d_input.as_ref().map(whole),
            ..BackwardBuffers::new(all.rnn_forward(layout), whole(&all.d_output), d_params)
        };
        work.push(Work::Backward(self.training.bind_backward(&buffers)?));
        if let (Some(embedding), Some(tokens), Some(d_input), Some(range)) =
            (&self.embedding, &all.tokens, &all.d_input, layout.embedding())
        {
            let buffers = EmbeddingBackward {
                tokens: whole(tokens),
                d_output: whole(d_input),
                d_params: part(&all.d_params, range),
                workspace: whole(&all.workspace),
            };
            work.push(Work::Pass(embedding.bind_backward(&buffers)?));
        }
        let buffers = ClipBuffers { d_params: whole(&all.d_params), norm: whole(&all.norm), workspace: whole(&all.workspace) };
        for clipping in std::iter::once(&self.norm).chain(&self.clipping) {
            work.push(Work::Pass(clipping.bind(&buffers)?));
        }
        let buffers =
            GuardBuffers { norm: whole(&all.norm), loss: whole(&all.loss), hyper: whole(&all.hyper), state: whole(&all.guard) };
        work.push(Work::Pass(self.guard.bind(&buffers)?));
        let buffers = UpdateBuffers {
            params: whole(&all.params),
            d_params: whole(&all.d_params),
            first_moment: all.first_moment.as_ref().map(whole),
            second_moment: all.second_moment.as_ref().map(whole),
            hyper: whole(&all.hyper),
        };
        work.push(Work::Pass(self.update.bind(&buffers)?));
        Ok(work)
    }
}
