//! [`Trainer`]: embedding, network, head, loss, clipping and optimizer on buffers of its own.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpu::{Buffer, CommandEncoder};

use super::Optimizer;
use super::buffers::{Buffers, Carried};
use super::config::{Batch, Inputs, NonFinite, Targets, TrainConfig};
use super::layout::{Layout, Weights};
use super::parts::{Parts, Work};
use crate::error::{Error, Result, check_len};
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::network::sequence::state_len;
use crate::rnn::Rnn;
use crate::schedule::Strategy;

/// Trains a whole model: an embedding if there is one, a recurrent network, a linear head, a loss.
///
/// All of it stays on the GPU: parameters, gradients and moments are one flat block each, allocated when the trainer is made, and a
/// step submits one list of dispatches. Losses are kept there until they are asked for.
///
/// A network of [`Dtype::F16`] reads parameters, inputs and gradients and writes outputs and gradients as f16, on adapters without f16 in
/// shaders too. Parameters, moments, embedding, head, loss and the gradients of parameters stay f32; gradients go through the network with
/// a [`LossScale`](super::LossScale).
///
/// ```no_run
/// # fn main() -> tidegate::Result<()> {
/// use tidegate::train::{Batch, Clip, Inputs, Layout, Objective, Optimizer, Targets, TrainConfig, Trainer, Weights, schedule};
/// use tidegate::{Context, Lstm, Rnn, RnnConfig, SeqShape};
///
/// let ctx = pollster::block_on(Context::request())?;
/// let lstm = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(32, 128))?;
/// let shape = SeqShape { seq_len: 64, batch_size: 16 };
/// let config = TrainConfig::new(shape, Objective::CrossEntropy, 65)
///     .with_vocabulary(65)
///     .with_carry_state(true)
///     .with_clip(Clip::Norm(1.0));
/// let weights = Weights::init(&Layout::new(&lstm, &config)?, 1);
/// let mut trainer = Trainer::new(&lstm, &config, Optimizer::adam(), &weights)?;
/// # let chunks: Vec<(Vec<u32>, Vec<u32>)> = Vec::new();
/// for (tokens, next) in &chunks {
///     trainer.write_batch(&Batch::new(Inputs::Tokens(tokens), Targets::Labels(next)))?;
///     trainer.step(schedule::warmup_cosine(trainer.steps(), 100, 5000, 3e-3, 1e-4))?;
///     if trainer.steps() % 100 == 0 {
///         println!("{:?}", trainer.losses_blocking()?);
///     }
/// }
/// std::fs::write("checkpoint.safetensors", trainer.checkpoint_blocking("")?).expect("the folder can be written");
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    pub(super) ctx: Context,
    config: TrainConfig,
    rnn: Rnn,
    pub(super) layout: Layout,
    pub(super) optimizer: Optimizer,
    strategy: Strategy,
    pub(super) buffers: Buffers,
    training: Vec<Work>,
    evaluation: Vec<Work>,
    /// Steps since the first weights.
    pub(super) step: u64,
    /// Steps that changed nothing, as the log last told.
    pub(super) skipped: u64,
    /// The loss scale, as the log last told.
    pub(super) loss_scale: f32,
    /// Losses in the log that were not read.
    pub(super) unread: usize,
    /// Rows to reset before the next chunk.
    pub(super) pending: BTreeSet<usize>,
    /// Whether the reset mask may hold anything but zeros.
    pub(super) has_resets: bool,
    /// Whether the chunk that is there came by `write_batch`.
    pub(super) is_written: bool,
    /// Whether the app asked for the buffers of a chunk, which it then fills itself.
    is_lent: AtomicBool,
    /// Scratch of `write_batch`.
    counted: Vec<u32>,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rnn, optimizer, step, .. } = self;
        f.debug_struct("Trainer").field("rnn", rnn).field("optimizer", optimizer).field("step", step).finish_non_exhaustive()
    }
}

impl Trainer {
    /// Allocates and builds everything that steps of this shape need, and uploads the weights, which must have the layout
    /// [`Layout::new`] gives for the same network and config.
    pub fn new(rnn: &Rnn, config: &TrainConfig, optimizer: Optimizer, weights: &Weights) -> Result<Self> {
        config.validate(rnn)?;
        rnn.measure_residency_blocking()?;
        let ctx = rnn.context();
        let layout = Layout::new(rnn, config)?;
        check_layout(&layout, weights.layout())?;
        let parts = Parts::new(rnn, config, optimizer, &layout)?;
        let buffers = Buffers::new(ctx, config, &parts, weights)?;
        let mut training = parts.bind_forward(&parts.training, &buffers, &layout)?;
        training.extend(parts.bind_backward(&buffers, &layout)?);
        let evaluation = parts.bind_forward(&parts.inference, &buffers, &layout)?;
        Ok(Self {
            ctx: ctx.clone(),
            config: config.clone(),
            rnn: rnn.clone(),
            layout,
            optimizer,
            strategy: parts.training.strategy(),
            buffers,
            training,
            evaluation,
            step: 0,
            skipped: 0,
            loss_scale: config.loss_scale.first,
            unread: 0,
            pending: BTreeSet::new(),
            has_resets: false,
            is_written: false,
            is_lent: AtomicBool::new(false),
            counted: Vec::new(),
        })
    }

    /// How it trains.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The network that it trains, but for its weights.
    pub fn rnn(&self) -> &Rnn {
        &self.rnn
    }

    /// Names, shapes and ranges of the tensors in the flat blocks.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Steps that were recorded since the first weights, those before a restored checkpoint included.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Steps that changed nothing, as their loss or the norm of their gradients was NaN or infinite, up to the last call of
    /// [`losses`](Trainer::losses), which brings the count with it. Adam's bias corrections do not count them.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// By what gradients are multiplied on their way through a network of f16, up to the last call of [`losses`](Trainer::losses), which
    /// brings it with it; none of f32. See [`LossScale`](super::LossScale).
    pub fn loss_scale(&self) -> Option<f32> {
        (self.rnn.dtype() == Dtype::F16).then_some(self.loss_scale)
    }

    /// How many dispatches a step is.
    pub fn dispatches(&self) -> usize {
        self.training.iter().map(Work::dispatches).sum()
    }

    /// Checks a chunk and sends it to the GPU, for the next submit; it stays until another takes its place, but for the resets.
    pub fn write_batch(&mut self, batch: &Batch<'_>) -> Result<()> {
        batch.check(&self.config, self.rnn.config(), &mut self.counted)?;
        let (ctx, buffers) = (&self.ctx, &self.buffers);
        match (batch.inputs, &buffers.tokens) {
            (Inputs::Tokens(tokens), Some(buffer)) => ctx.write(buffer, 0, tokens)?,
            (Inputs::Features(features), _) => ctx.write(&buffers.input, 0, &self.rnn.dtype().encode(features))?,
            (Inputs::Tokens(_), None) => {}
        }
        match batch.targets {
            Targets::Labels(labels) => ctx.write(&buffers.targets, 0, labels)?,
            Targets::Values(values) => ctx.write(&buffers.targets, 0, values)?,
        }
        if let (Some(buffer), Some(lengths)) = (&buffers.lengths, batch.lengths) {
            ctx.write(buffer, 0, lengths)?;
        }
        if let (Some(buffer), Some(hold)) = (&buffers.hold, batch.hold) {
            ctx.write(buffer, 0, hold)?;
        }
        ctx.write(&buffers.mask, 0, &self.counted)?;
        if let (Some(carried), Some(reset)) = (&buffers.carried, batch.reset) {
            ctx.write(&carried.reset, 0, reset)?;
            self.has_resets = true;
        }
        self.is_written = true;
        Ok(())
    }

    /// Refuses to compute on zeros that nobody meant.
    fn check_batch(&self) -> Result<()> {
        if self.is_written || self.is_lent.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.ctx.check_present()?;
        let todo = "call `write_batch` first, after `predict` too, or fill the buffers of `tokens` or `input`, and of `targets`";
        Err(Error::Config(format!("there is no batch: {todo}")))
    }

    /// A buffer that the app may fill.
    fn lent<T>(&self, buffer: T) -> T {
        self.is_lent.store(true, Ordering::Relaxed);
        buffer
    }

    /// Makes the carried state of these rows zero before the next chunk that is recorded. It goes into that chunk's encoder.
    pub fn reset_rows(&mut self, rows: &[usize]) -> Result<()> {
        self.ctx.check_lost()?;
        if !self.config.carry_state {
            return Err(Error::Config("`reset_rows` needs a config with `carry_state`".into()));
        }
        let max = self.config.shape.batch_size as u64 - 1;
        if let Some(&row) = rows.iter().find(|&&row| row as u64 > max) {
            return Err(Error::Range { name: "row to reset".into(), value: row as u64, min: 0, max });
        }
        self.pending.extend(rows);
        Ok(())
    }

    /// Records one step on the chunk that is there: forward, loss, backward, clipping, update. Allocates no GPU object.
    /// An error before the first [`write_batch`](Trainer::write_batch), unless the app has asked for the buffers of a chunk to fill them itself.
    ///
    /// Up to `log_len` steps may go into one submit, each with its own learning rate; but as [`write_batch`](Trainer::write_batch) writes
    /// before a submit, all of them see the last chunk, unless the encoder brings another to [`tokens`](Trainer::tokens) and
    /// [`targets`](Trainer::targets).
    pub fn encode(&mut self, learning_rate: f64, encoder: &mut CommandEncoder) -> Result<()> {
        if !(learning_rate >= 0.0 && learning_rate <= f64::from(f32::MAX)) {
            return Err(Error::Config(format!("`learning_rate` is {learning_rate}, must be a finite number, 0 or above")));
        }
        let buffers = &self.buffers;
        let slot = self.step % self.config.log_len as u64;
        let hyper = self.optimizer.hyper(learning_rate, self.step + 1);
        // Adam divides the rate by up to 1 − beta.
        if let Some(value) = hyper.iter().find(|value| !value.is_finite()) {
            let name = self.optimizer.name();
            return Err(Error::Config(format!("`learning_rate` is {learning_rate}: {name} makes {value} of it in f32")));
        }
        self.check_batch()?;
        let (hyper_bytes, loss_bytes) = (buffers.hyper.size(), buffers.loss.size());
        self.ctx.write(&buffers.hypers, hyper_bytes * slot, &hyper)?;
        encoder.copy_buffer_to_buffer(&buffers.hypers, hyper_bytes * slot, &buffers.hyper, 0, hyper_bytes);
        let pending = std::mem::take(&mut self.pending);
        buffers.record(&self.training, &pending, self.has_resets, encoder);
        self.has_resets = false;
        encoder.copy_buffer_to_buffer(&buffers.loss, 0, &buffers.log, loss_bytes * slot, loss_bytes);
        self.step += 1;
        self.unread = (self.unread + 1).min(self.config.log_len);
        Ok(())
    }

    /// Records and submits one step.
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        let mut encoder = self.ctx.encoder("tidegate train");
        self.encode(learning_rate, &mut encoder)?;
        self.ctx.submit(encoder)
    }

    /// The loss of each step since the last call, oldest first, of no more than the last `log_len` steps. The one readback that
    /// training needs: ask every few steps.
    ///
    /// A loss that is NaN or infinite is given as it is; where the loss is finite and the norm of the gradients is not, the norm stands
    /// in its place. Such a step changed nothing, [`skipped`](Trainer::skipped) counts them, and with [`NonFinite::Error`] the first
    /// is the error of this call, which drops the losses; one that the log has no more is an error too.
    pub async fn losses(&mut self) -> Result<Vec<f32>> {
        let buffers = &self.buffers;
        let log_bytes = buffers.log.size();
        let mut encoder = self.ctx.encoder("tidegate train");
        encoder.copy_buffer_to_buffer(&buffers.log, 0, &buffers.staging, 0, log_bytes);
        encoder.copy_buffer_to_buffer(&buffers.status, 0, &buffers.staging, log_bytes, buffers.status.size());
        let guard_at = log_bytes + buffers.status.size();
        encoder.copy_buffer_to_buffer(&buffers.guard, 0, &buffers.staging, guard_at, buffers.guard.size());
        encoder.clear_buffer(&buffers.status, 0, None);
        self.ctx.submit(encoder)?;
        let mut log = self.ctx.map(&buffers.staging).await?;
        let status = log.split_off((log_bytes / 4) as usize);
        if self.strategy == Strategy::Persistent {
            self.ctx.record_status(&status);
        }
        let first = self.step - self.unread as u64;
        let losses: Vec<f32> = (first..self.step).map(|step| log[2 * (step % self.config.log_len as u64) as usize]).collect();
        self.unread = 0;
        let before = self.skipped;
        if let &[skipped, _, scale, _] = &status[(buffers.status.size() / 4) as usize..] {
            (self.skipped, self.loss_scale) = (skipped.to_bits().into(), scale);
        }
        if self.config.non_finite == NonFinite::Error {
            self.check_finite(first, &losses, self.skipped - before)?;
        }
        Ok(losses)
    }

    /// `skipped` steps were, since the last time.
    fn check_finite(&self, first: u64, losses: &[f32], skipped: u64) -> Result<()> {
        let todo = "the weights are as they were before it; look at its batch, or lower the learning rate";
        if let Some(at) = losses.iter().position(|loss| !loss.is_finite()) {
            let name = format!("loss or norm of step {}", first + at as u64);
            return Err(Error::NonFinite { name, value: losses[at].into(), todo });
        }
        // What a loss scale skips is no error, and its entry is finite.
        if skipped > 0 && self.loss_scale().is_none() {
            let name = format!("loss or norm of a step before {first}, where the log of {} begins", self.config.log_len);
            return Err(Error::NonFinite { name, value: f64::NAN, todo });
        }
        Ok(())
    }

    /// [`losses`](Trainer::losses) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn losses_blocking(&mut self) -> Result<Vec<f32>> {
        pollster::block_on(self.losses())
    }

    /// The loss of the chunk that is there, without dropout and without an update. Carried states go on as in a step:
    /// [`reset_rows`](Trainer::reset_rows), or [`state`](Trainer::state) and [`set_state`](Trainer::set_state), keep them apart.
    pub async fn evaluate(&mut self) -> Result<f32> {
        self.check_batch()?;
        let mut encoder = self.ctx.encoder("tidegate train");
        let pending = std::mem::take(&mut self.pending);
        self.buffers.record(&self.evaluation, &pending, self.has_resets, &mut encoder);
        self.has_resets = false;
        self.ctx.submit(encoder)?;
        let [loss] = self.ctx.download([&self.buffers.loss]).await?;
        Ok(loss[0])
    }

    /// [`evaluate`](Trainer::evaluate) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn evaluate_blocking(&mut self) -> Result<f32> {
        pollster::block_on(self.evaluate())
    }

    /// The weights as they are now.
    pub async fn weights(&self) -> Result<Weights> {
        let [values] = self.ctx.download([&self.buffers.params]).await?;
        Weights::from_values(&self.layout, values)
    }

    /// [`weights`](Trainer::weights) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn weights_blocking(&self) -> Result<Weights> {
        pollster::block_on(self.weights())
    }

    /// Overwrites the weights, for the next submit. Moments, step and state stay.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        check_layout(&self.layout, weights.layout())?;
        self.ctx.write(&self.buffers.params, 0, weights.values())
    }

    /// The carried state `[S, L, B, H]`, pending resets applied.
    pub async fn state(&self) -> Result<Vec<f32>> {
        let carried = self.carried()?;
        let [mut state] = self.ctx.download([&carried.state]).await?;
        let (network, batch) = (self.rnn.config(), self.config.shape.batch_size);
        let (h, others) = state.split_at_mut(network.num_layers * batch * network.h_size());
        for (part, size) in [(h, network.h_size()), (others, network.hidden_size)] {
            for (at, values) in part.chunks_exact_mut(size).enumerate() {
                if self.pending.contains(&(at % batch)) {
                    values.fill(0.0);
                }
            }
        }
        Ok(state)
    }

    /// [`state`](Trainer::state) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn state_blocking(&self) -> Result<Vec<f32>> {
        pollster::block_on(self.state())
    }

    /// Overwrites the carried state `[S, L, B, H]`, for the next submit. Resets that are pending are dropped.
    pub fn set_state(&mut self, state: &[f32]) -> Result<()> {
        let carried = self.carried()?;
        check_len("state", (carried.state.size() / 4) as usize, state.len())?;
        self.ctx.write(&carried.state, 0, state)?;
        self.pending.clear();
        Ok(())
    }

    fn carried(&self) -> Result<&Carried> {
        let missing = || Error::Config("a state is carried only with `carry_state`".into());
        self.buffers.carried.as_ref().ok_or_else(missing)
    }

    pub(super) fn state_shape(&self) -> Vec<usize> {
        let network = self.rnn.config();
        if network.proj_size > 0 {
            // The states differ in size.
            return vec![state_len(self.rnn.cell_spec(), network, self.config.shape)];
        }
        vec![self.rnn.cell_spec().states.len(), network.num_layers, self.config.shape.batch_size, network.hidden_size]
    }

    pub(super) fn has_dropout(&self) -> bool {
        self.rnn.config().dropout > 0.0
    }

    /// The flat parameter block, f32.
    pub fn params(&self) -> &Buffer {
        &self.buffers.params
    }

    /// The flat gradient block of the last step, clipped, f32.
    pub fn d_params(&self) -> &Buffer {
        &self.buffers.d_params
    }

    /// Two f32 of the last step: the norm of all gradients before any clipping, and what [`Clip::Norm`](super::Clip::Norm) multiplied
    /// them by, else 1.
    pub fn norm(&self) -> &Buffer {
        &self.buffers.norm
    }

    /// Where the tokens of a chunk lie, u32; none without an embedding. Whoever asks for this buffer or those of [`input`](Trainer::input)
    /// or [`targets`](Trainer::targets) is taken to fill them: from then on no step asks for a [`write_batch`](Trainer::write_batch).
    pub fn tokens(&self) -> Option<&Buffer> {
        self.buffers.tokens.as_deref().map(|tokens| self.lent(tokens))
    }

    /// What the network reads, `[T, B, I]` stored as its dtype: the features of a chunk, or what the embedding made of its tokens.
    pub fn input(&self) -> &Buffer {
        self.lent(&self.buffers.input)
    }

    /// Where the targets of a chunk lie: u32 labels or f32 values.
    pub fn targets(&self) -> &Buffer {
        self.lent(&self.buffers.targets)
    }

    /// What the head made of the last chunk: logits or values, `[T, B, C]` f32 in the order of the inputs, or `[B, C]`.
    pub fn predictions(&self) -> &Buffer {
        &self.buffers.prediction
    }
}

fn check_layout(expected: &Layout, actual: &Layout) -> Result<()> {
    let mut found = actual.iter();
    for spec in expected.iter() {
        match found.next() {
            Some(other) if other == spec => {}
            Some(other) if other.name == spec.name && other.shape != spec.shape => {
                return Err(Error::Shape { name: spec.name.clone(), expected: spec.shape.clone(), actual: other.shape.clone() });
            }
            Some(other) if other.name == spec.name => {
                let (expected, actual) = (spec.range.start, other.range.start);
                let name = &spec.name;
                return Err(Error::Config(format!("`{name}` starts at {actual}, here at {expected}: weights of another device")));
            }
            _ => return Err(Error::MissingTensor { name: spec.name.clone() }),
        }
    }
    found.next().map_or(Ok(()), |spec| Err(Error::UnusedTensor { name: spec.name.clone() }))
}
