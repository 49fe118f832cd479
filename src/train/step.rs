//! The parts of a model bound to their buffers: what a step runs, in order.

use super::buffers::{Buffers, part, whole};
use super::guard::GuardBuffers;
use super::half::{Conversion, unscale};
use super::layout::Layout;
use super::parts::{Parts, Work};
use super::{ClipBuffers, EmbeddingBackward, EmbeddingForward, LinearBackward, LinearForward, LossBuffers, UpdateBuffers};
use crate::error::Result;
use crate::plan::{BackwardBuffers, Plan};

impl Parts {
    /// From inputs to the loss and the gradient of the predictions, through one of the plans.
    pub fn bind_forward(&self, plan: &Plan, all: &Buffers, layout: &Layout) -> Result<Vec<Work>> {
        let mut work = Vec::new();
        let [embedded, _] = all.embedded();
        if let (Some(embedding), Some(tokens), Some(embedded), Some(range)) =
            (&self.embedding, &all.tokens, embedded, layout.embedding())
        {
            let buffers = EmbeddingForward { params: part(&all.params, range), tokens: whole(tokens), output: whole(embedded) };
            work.push(Work::Pass(embedding.bind_forward(&buffers)?));
        }
        work.extend(self.halves_for_network(all, layout)?);
        work.push(Work::Forward(plan.bind_forward(&all.rnn_forward(layout))?));
        work.extend(self.output_of_network(all)?);
        if let (Some(readout), Some((features, _))) = (&self.readout, &all.features) {
            let lengths = all.lengths.as_deref().map(whole);
            work.push(Work::Pass(readout.bind_forward(lengths, whole(all.output()[0]), whole(features))?));
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
            let lengths = all.lengths.as_deref().map(whole);
            work.push(Work::Pass(readout.bind_backward(lengths, whole(d_features), whole(all.output()[1]))?));
        }
        work.extend(self.gradients_to_network(all)?);
        let d_params = part(&all.d_params, layout.rnn());
        let buffers = BackwardBuffers {
            d_input: all.d_input.as_deref().map(whole),
            ..BackwardBuffers::new(all.rnn_forward(layout), whole(&all.d_output), d_params)
        };
        work.push(Work::Backward(self.training.bind_backward(&buffers)?));
        work.extend(self.gradients_from_network(all, layout)?);
        let [_, d_embedded] = all.embedded();
        if let (Some(embedding), Some(tokens), Some(d_embedded), Some(range)) =
            (&self.embedding, &all.tokens, d_embedded, layout.embedding())
        {
            let buffers = EmbeddingBackward {
                tokens: whole(tokens),
                d_output: whole(d_embedded),
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
            first_moment: all.first_moment.as_deref().map(whole),
            second_moment: all.second_moment.as_deref().map(whole),
            hyper: whole(&all.hyper),
        };
        work.push(Work::Pass(self.update.bind(&buffers)?));
        Ok(work)
    }

    /// Parameters and what the embedding made, as f16.
    fn halves_for_network(&self, all: &Buffers, layout: &Layout) -> Result<Vec<Work>> {
        let (Some(sizes), Some(half)) = (&self.half, &all.half) else { return Ok(Vec::new()) };
        let params = part(&all.params, layout.rnn());
        let params = Conversion { len: sizes.params, src: params, dst: whole(&half.params), scale: None };
        let mut work = vec![Work::Pass(params.pack(&self.ctx)?)];
        if let Some((made, _)) = &half.embedded {
            let input = Conversion { len: sizes.input, src: whole(made), dst: whole(&all.input), scale: None };
            work.push(Work::Pass(input.pack(&self.ctx)?));
        }
        Ok(work)
    }

    /// The output as f32.
    fn output_of_network(&self, all: &Buffers) -> Result<Option<Work>> {
        let (Some(sizes), Some(half)) = (&self.half, &all.half) else { return Ok(None) };
        let output = Conversion { len: sizes.output, src: whole(&all.output), dst: whole(&half.output), scale: None };
        Ok(Some(Work::Pass(output.unpack(&self.ctx)?)))
    }

    /// The gradient of the output times the loss scale, as f16.
    fn gradients_to_network(&self, all: &Buffers) -> Result<Option<Work>> {
        let (Some(sizes), Some(half)) = (&self.half, &all.half) else { return Ok(None) };
        let (src, dst) = (whole(&half.d_output), whole(&all.d_output));
        let d_output = Conversion { len: sizes.output, src, dst, scale: Some(whole(&all.guard)) };
        Ok(Some(Work::Pass(d_output.pack(&self.ctx)?)))
    }

    /// The network's gradients without the loss scale, that of what the embedding made as f32.
    fn gradients_from_network(&self, all: &Buffers, layout: &Layout) -> Result<Vec<Work>> {
        let (Some(sizes), Some(half)) = (&self.half, &all.half) else { return Ok(Vec::new()) };
        let d_params = part(&all.d_params, layout.rnn());
        let mut work = vec![Work::Pass(unscale(&self.ctx, sizes.params, &d_params, &whole(&all.guard))?)];
        if let (Some((_, d_made)), Some(d_input)) = (&half.embedded, &all.d_input) {
            let scale = Some(whole(&all.guard));
            let d_input = Conversion { len: sizes.input, src: whole(d_input), dst: whole(d_made), scale };
            work.push(Work::Pass(d_input.unpack(&self.ctx)?));
        }
        Ok(work)
    }
}
