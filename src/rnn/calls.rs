//! Calls that take and give host data, on buffers of their own.

use std::sync::atomic::{AtomicU32, Ordering};

use wgpu::{Buffer, BufferBinding, CommandEncoder};

use crate::error::{Result, check_len};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;
use crate::gpu::side_by_side::waits_in_vain;
use crate::network::sequence::{Gradients, Mode, Output, OutputGradients, Sequence};
use crate::plan::allocation::{Fill, GradientBuffers, PlanBuffers};
use crate::plan::{BackwardBuffers, ForwardBuffers, IntoBinding, Plan};
use crate::rnn::Rnn;
use crate::schedule::Strategy;

impl Rnn {
    /// Runs host data through the network in inference mode, on buffers of its own. The parameters are a `&DeviceBuffer`, a `&wgpu::Buffer`
    /// or a binding of a part of one, as wherever buffers are given:
    ///
    /// ```no_run
    /// use tidegate::{Params, Result, Rnn, SeqShape, Sequence, wgpu};
    ///
    /// fn both(rnn: &Rnn, values: &Params, own: &wgpu::Buffer, input: &[f32]) -> Result<()> {
    ///     let seq = Sequence::new(SeqShape::new(20, 2), input);
    ///     rnn.forward_blocking(&rnn.upload(values)?, &seq)?;
    ///     rnn.forward_blocking(own, &seq)?;
    ///     rnn.forward_training_blocking(&rnn.upload(values)?, &seq)?;
    ///     rnn.forward_training_blocking(own, &seq)?;
    ///     rnn.session(&rnn.upload(values)?, seq.shape)?;
    ///     rnn.session(own, seq.shape)?;
    ///     rnn.write_params(&rnn.upload(values)?, values)?;
    ///     rnn.write_params(own, values)
    /// }
    /// ```
    pub async fn forward<'a>(&'a self, params: impl IntoBinding<'a>, seq: &Sequence<'_>) -> Result<Output> {
        self.measure_residency().await?;
        let run = HostRun::new(self, params, seq, Mode::Inference)?;
        let mut encoder = run.encoder();
        run.plan.bind_forward(&run.forward_buffers())?.encode(&mut encoder);
        self.context().submit(encoder)?;
        run.record().await?;
        run.output().await
    }

    /// [`forward`](Rnn::forward) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_blocking<'a>(&'a self, params: impl IntoBinding<'a>, seq: &Sequence<'_>) -> Result<Output> {
        pollster::block_on(self.forward(params, seq))
    }

    /// Runs host data forward in training mode: the output is there for a loss, and [`TrainingRun::backward`] takes its gradient.
    pub async fn forward_training<'a>(&'a self, params: impl IntoBinding<'a>, seq: &Sequence<'_>) -> Result<TrainingRun<'a>> {
        self.measure_residency().await?;
        let run = HostRun::new(self, params, seq, Mode::Training)?;
        let mut encoder = run.encoder();
        run.plan.bind_forward(&run.forward_buffers())?.encode(&mut encoder);
        self.context().submit(encoder)?;
        run.record().await?;
        Ok(TrainingRun { output: run.output().await?, run })
    }

    /// [`forward_training`](Rnn::forward_training) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn forward_training_blocking<'a>(&'a self, params: impl IntoBinding<'a>, seq: &Sequence<'_>) -> Result<TrainingRun<'a>> {
        pollster::block_on(self.forward_training(params, seq))
    }

    /// Runs host data forward in training mode and the gradients of its output back.
    pub async fn backward<'a>(
        &'a self,
        params: impl IntoBinding<'a>,
        seq: &Sequence<'_>,
        d: &OutputGradients<'_>,
    ) -> Result<(Output, Gradients)> {
        let run = self.forward_training(params, seq).await?;
        let gradients = run.backward(d).await?;
        Ok((run.output, gradients))
    }

    /// [`backward`](Rnn::backward) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn backward_blocking<'a>(
        &'a self,
        params: impl IntoBinding<'a>,
        seq: &Sequence<'_>,
        d: &OutputGradients<'_>,
    ) -> Result<(Output, Gradients)> {
        pollster::block_on(self.backward(params, seq, d))
    }
}

/// The buffers of one convenience call.
#[derive(Debug)]
pub(crate) struct HostRun<'a> {
    rnn: &'a Rnn,
    ctx: &'a Context,
    plan: Plan,
    params: BufferBinding<'a>,
    input: DeviceBuffer,
    initial_state: Option<DeviceBuffer>,
    lengths: Option<DeviceBuffer>,
    reset: Option<DeviceBuffer>,
    hold: Option<DeviceBuffer>,
    dropout_state: DeviceBuffer,
    buffers: PlanBuffers,
    /// Repairs of this run that the context knows of.
    recorded: AtomicU32,
}

impl<'a> HostRun<'a> {
    pub fn new(rnn: &'a Rnn, params: impl IntoBinding<'a>, seq: &Sequence<'_>, mode: Mode) -> Result<Self> {
        seq.validate(rnn.cell(), rnn.config())?;
        let ctx = rnn.context();
        let plan = rnn.plan(seq.shape, mode)?;
        let buffers = PlanBuffers::new(ctx, &plan.sizes(), Fill::Zeros)?;
        let words = |label, values: &[u32]| buffers.keep(ctx.upload(label, values));
        Ok(Self {
            rnn,
            ctx,
            params: params.into_binding(),
            input: buffers.keep(rnn.upload_stored("input", seq.input))?,
            initial_state: seq.initial_state.map(|s| buffers.keep(ctx.upload("initial_state", s))).transpose()?,
            lengths: seq.lengths.map(|l| words("lengths", l)).transpose()?,
            reset: seq.reset.map(|r| words("reset", r)).transpose()?,
            hold: seq.hold.map(|h| words("hold", h)).transpose()?,
            dropout_state: words("dropout_state", &seq.dropout.words())?,
            recorded: AtomicU32::new(0),
            plan,
            buffers,
        })
    }

    pub fn context(&self) -> &Context {
        self.ctx
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn encoder(&self) -> CommandEncoder {
        self.ctx.encoder("tidegate")
    }

    pub fn forward_buffers(&self) -> ForwardBuffers<'_> {
        ForwardBuffers {
            initial_state: self.initial_state.as_deref().map(Buffer::as_entire_buffer_binding),
            lengths: self.lengths.as_deref().map(Buffer::as_entire_buffer_binding),
            reset: self.reset.as_deref().map(Buffer::as_entire_buffer_binding),
            hold: self.hold.as_deref().map(Buffer::as_entire_buffer_binding),
            dropout_state: Some(self.dropout_state.as_entire_buffer_binding()),
            ..self.buffers.forward(self.params.clone(), &self.input)
        }
    }

    pub fn gradients(&self) -> Result<GradientBuffers> {
        GradientBuffers::new(self.ctx, &self.plan.sizes(), Fill::Zeros)
    }

    pub async fn download_gradients(&self, of: &GradientBuffers) -> Result<Gradients> {
        let [d_input, d_params, d_initial_state] = self.ctx.download([&of.d_input, &of.d_params, &of.d_initial_state]).await?;
        let len = self.plan.shape().rows() * self.rnn.config().input_size;
        Ok(Gradients { d_input: self.rnn.dtype().decode(d_input, len), d_params, d_initial_state })
    }

    pub async fn output(&self) -> Result<Output> {
        let [output, final_state] = self.ctx.download([&self.buffers.output, &self.buffers.final_state]).await?;
        let len = self.plan.shape().rows() * self.rnn.config().output_size();
        Ok(Output { output: self.rnn.dtype().decode(output, len), final_state })
    }

    /// What the status holds since the run was made.
    pub async fn status(&self) -> Result<[u32; 4]> {
        let [words] = self.ctx.download([&self.buffers.status]).await?;
        Ok([0, 1, 2, 3].map(|i| words[i].to_bits()))
    }

    /// Lets the context know of repairs, so that strategy persistent is dropped where it keeps failing.
    async fn record(&self) -> Result<()> {
        if self.plan.strategy() == Strategy::Persistent {
            let status = self.status().await?;
            let failed = waits_in_vain(status);
            let known = self.recorded.swap(failed, Ordering::Relaxed);
            self.ctx.record_repairs(failed.wrapping_sub(known), status[2]);
        }
        Ok(())
    }
}

/// A training forward on buffers of its own. Its gradients may be asked for any number of times, while the parameters are those
/// of the forward.
#[derive(Debug)]
pub struct TrainingRun<'a> {
    output: Output,
    run: HostRun<'a>,
}

impl TrainingRun<'_> {
    /// Output and final state, with dropout applied.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Gradients of any loss from its gradients in the output.
    pub async fn backward(&self, d: &OutputGradients<'_>) -> Result<Gradients> {
        let (run, ctx) = (&self.run, self.run.ctx);
        check_len("d_output", self.output.output.len(), d.d_output.len())?;
        d.d_final_state.map_or(Ok(()), |d| check_len("d_final_state", self.output.final_state.len(), d.len()))?;
        let owned = OwnedBuffers::default();
        let d_output = owned.keep(run.rnn.upload_stored("d_output", d.d_output))?;
        let d_final_state = d.d_final_state.map(|d| owned.keep(ctx.upload("d_final_state", d))).transpose()?;
        let gradients = run.gradients()?;
        let buffers = BackwardBuffers {
            d_final_state: d_final_state.as_deref().map(Buffer::as_entire_buffer_binding),
            ..gradients.backward(run.forward_buffers(), &d_output)
        };
        let mut encoder = run.encoder();
        run.plan.bind_backward(&buffers)?.encode(&mut encoder);
        ctx.submit(encoder)?;
        run.record().await?;
        run.download_gradients(&gradients).await
    }

    /// [`backward`](TrainingRun::backward) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn backward_blocking(&self, d: &OutputGradients<'_>) -> Result<Gradients> {
        pollster::block_on(self.backward(d))
    }
}
