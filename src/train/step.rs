//! The parts of a model bound to their buffers: what a step runs, in order.

use super::buffers::{Buffers, part, whole};
use super::guard::GuardBuffers;
use super::layout::Layout;
use super::parts::{Parts, Work};
use super::{ClipBuffers, EmbeddingBackward, EmbeddingForward, LinearBackward, LinearForward, LossBuffers, UpdateBuffers};
use crate::error::Result;
use crate::plan::{BackwardBuffers, Plan};

impl Parts {
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
