//! [`Session`]: streams that keep their state on the GPU.

use std::collections::BTreeSet;
use std::fmt;

use wgpu::{Buffer, BufferUsages, CommandEncoder};

use crate::error::{Error, Result, check_len};
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::dtype::Dtype;
use crate::network::config::Direction;
use crate::network::sequence::{Mode, SeqShape};
use crate::plan::allocation::Allocator;
use crate::plan::{Forward, ForwardBuffers, IntoBinding};
use crate::rnn::Rnn;
use crate::schedule::Strategy;

/// A stream processed chunk by chunk; the state stays on the GPU. Allocates everything when it is made, and keeps the strategy
/// that it was made with: where persistent keeps being repaired, make a new session with another.
pub struct Session {
    ctx: Context,
    shape: SeqShape,
    dtype: Dtype,
    /// Elements of the input and of the output.
    lens: [usize; 2],
    forward: Forward,
    input: DeviceBuffer,
    output: DeviceBuffer,
    state: DeviceBuffer,
    /// What a chunk writes that may not write where it reads; it is then copied to `state`.
    next_state: Option<DeviceBuffer>,
    /// For strategy persistent, which may have to be repaired; else nothing is counted.
    status: Option<DeviceBuffer>,
    /// The output, and behind it the status.
    staging: DeviceBuffer,
    /// `[T, B]` u32; all but the first step's words stay 0.
    reset_mask: DeviceBuffer,
    /// Whether the app has the mask, and may write it at any time.
    shared_mask: bool,
    /// `[B]` u32, each 1: what resets copy into the mask.
    ones: DeviceBuffer,
    /// Rows to reset before the next chunk.
    pending: BTreeSet<usize>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shape, dtype, forward, .. } = self;
        f.debug_struct("Session").field("shape", shape).field("dtype", dtype).field("forward", forward).finish_non_exhaustive()
    }
}

impl Rnn {
    /// A stream of `shape.batch_size` rows that advances by `shape.seq_len` steps a call, from a zero state.
    pub fn session<'a>(&self, params: impl IntoBinding<'a>, shape: SeqShape) -> Result<Session> {
        Session::new(self, params, shape)
    }
}

impl Session {
    fn new<'a>(rnn: &Rnn, params: impl IntoBinding<'a>, shape: SeqShape) -> Result<Self> {
        if rnn.config().direction != Direction::Forward {
            return Err(Error::Config(
                "a reverse or bidirectional network cannot be stepped: the reverse direction starts at the end".into(),
            ));
        }
        rnn.measure_residency_blocking()?;
        let ctx = rnn.context();
        let plan = rnn.plan(shape, Mode::Inference)?;
        let sizes = plan.sizes();
        let of = Allocator::new(ctx, &sizes, "session");
        let (input, output, state, workspace) = (of.input()?, of.output()?, of.state("state")?, of.workspace(0)?);
        let next_state = (!plan.steps_in_place()).then(|| of.state("next_state")).transpose()?;
        let status = (plan.strategy() == Strategy::Persistent).then(|| of.status()).transpose()?;
        let reset_mask = of.reset()?;
        let ones = ctx.upload("tidegate session ones", &vec![1u32; shape.batch_size])?;
        let staged = sizes.output + status.as_deref().map_or(0, Buffer::size);
        let staging = ctx.create_buffer("tidegate session staging", staged, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let params = params.into_binding();
        let mut buffers = ForwardBuffers::new(params, &input, &output, &workspace);
        buffers.initial_state = Some(state.as_entire_buffer_binding());
        buffers.final_state = Some(next_state.as_ref().unwrap_or(&state).as_entire_buffer_binding());
        buffers.reset = Some(reset_mask.as_entire_buffer_binding());
        buffers.status = status.as_deref().map(Buffer::as_entire_buffer_binding);
        let forward = plan.bind_forward(&buffers)?;
        Ok(Self {
            ctx: ctx.clone(),
            shape,
            dtype: rnn.dtype(),
            lens: [rnn.config().input_size, rnn.config().output_size()].map(|size| shape.rows() * size),
            forward,
            input,
            output,
            state,
            next_state,
            status,
            staging,
            reset_mask,
            shared_mask: false,
            ones,
            pending: BTreeSet::new(),
        })
    }

    /// Where the app puts the next chunk: `[T, B, I]`, `[B, T, I]` if batch-first, stored as the network's [`Dtype`].
    pub fn input(&self) -> &Buffer {
        &self.input
    }

    /// Where a chunk's output appears: `[T, B, H]`, `[B, T, H]` if batch-first, stored likewise.
    pub fn output(&self) -> &Buffer {
        &self.output
    }

    /// The state `[S, L, B, H]` f32, updated in place by every chunk.
    pub fn state(&self) -> &Buffer {
        &self.state
    }

    /// Makes the state of these rows zero before the next chunk that is recorded. It goes into that chunk's encoder, and with it.
    pub fn reset(&mut self, rows: &[usize]) -> Result<()> {
        self.ctx.check_lost()?;
        let max = self.shape.batch_size as u64 - 1;
        if let Some(&row) = rows.iter().find(|&&row| row as u64 > max) {
            return Err(Error::Range { name: "row to reset".into(), value: row as u64, min: 0, max });
        }
        self.pending.extend(rows);
        Ok(())
    }

    /// As [`reset`](Session::reset), but decided on the GPU: the app's kernels write a word other than 0 for each row to reset, `[B]` u32, before the next
    /// chunk is recorded. The chunk makes it zeros again.
    pub fn reset_mask(&mut self) -> &Buffer {
        self.shared_mask = true;
        &self.reset_mask
    }

    /// Overwrites the whole state `[S, L, B, H]`, for the next submit: where an encoder's final state starts a decoder. A reset
    /// that is pending is dropped, but not what stands in [`reset_mask`](Session::reset_mask). What is on the GPU already can be copied to [`state`](Session::state) instead.
    pub fn set_state(&mut self, state: &[f32]) -> Result<()> {
        check_len("state", (self.state.size() / 4) as usize, state.len())?;
        self.pending.clear();
        self.ctx.write(&self.state, 0, state)
    }

    /// How many dispatches a chunk is.
    pub fn dispatches(&self) -> usize {
        self.forward.dispatches()
    }

    /// Records the pending resets and one chunk.
    pub fn encode(&mut self, encoder: &mut CommandEncoder) {
        let has_resets = self.shared_mask || !self.pending.is_empty();
        for (first, count) in runs(&std::mem::take(&mut self.pending)) {
            encoder.copy_buffer_to_buffer(&self.ones, 0, &self.reset_mask, 4 * first as u64, 4 * count as u64);
        }
        self.forward.encode(encoder);
        if let Some(next) = &self.next_state {
            encoder.copy_buffer_to_buffer(next, 0, &self.state, 0, next.size());
        }
        if has_resets {
            encoder.clear_buffer(&self.reset_mask, 0, Some(self.ones.size()));
        }
    }

    /// Sends a chunk `[T, B, I]` through and gives its output `[T, B, H]`.
    pub async fn advance(&mut self, input: &[f32]) -> Result<Vec<f32>> {
        check_len("input", self.lens[0], input.len())?;
        self.ctx.write(&self.input, 0, &self.dtype.encode(input))?;
        let mut encoder = self.ctx.encoder("tidegate session");
        self.encode(&mut encoder);
        encoder.copy_buffer_to_buffer(&self.output, 0, &self.staging, 0, self.output.size());
        if let Some(status) = &self.status {
            encoder.copy_buffer_to_buffer(status, 0, &self.staging, self.output.size(), status.size());
            encoder.clear_buffer(status, 0, None);
        }
        self.ctx.submit(encoder)?;
        let mut values = self.ctx.map(&self.staging).await?;
        let status = values.split_off((self.output.size() / 4) as usize);
        self.ctx.record_status(&status);
        Ok(self.dtype.decode(values, self.lens[1]))
    }

    /// [`advance`](Session::advance) that waits.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn advance_blocking(&mut self, input: &[f32]) -> Result<Vec<f32>> {
        pollster::block_on(self.advance(input))
    }
}

/// First and number of each run of consecutive rows.
pub(crate) fn runs(rows: &BTreeSet<usize>) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &row in rows {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == row => *count += 1,
            _ => runs.push((row, 1)),
        }
    }
    runs
}
