//! Everything that a [`Trainer`](super::Trainer) has on the GPU.

use std::collections::BTreeSet;
use std::ops::Range;

use wgpu::{Buffer, BufferBinding, BufferUsages, CommandEncoder};

use super::config::TrainConfig;
use super::guard;
use super::layout::{Layout, Weights};
use super::parts::{Parts, Work};
use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::network::sequence::DropoutKey;
use crate::plan::ForwardBuffers;
use crate::plan::allocation::Allocator;
use crate::rnn::session::runs;

/// Everything that a trainer has on the GPU.
#[derive(Debug)]
pub(super) struct Buffers {
    pub params: DeviceBuffer,
    pub d_params: DeviceBuffer,
    pub first_moment: Option<DeviceBuffer>,
    pub second_moment: Option<DeviceBuffer>,
    pub hyper: DeviceBuffer,
    /// What each of the next steps copies to `hyper`, `[log_len, 4]`.
    pub hypers: DeviceBuffer,
    pub tokens: Option<DeviceBuffer>,
    /// What the network reads and writes, stored as its dtype.
    pub input: DeviceBuffer,
    pub d_input: Option<DeviceBuffer>,
    pub output: DeviceBuffer,
    pub d_output: DeviceBuffer,
    /// Around a network of f16.
    pub half: Option<Half>,
    /// What the head reads and its gradient, where that is not the output.
    pub features: Option<(DeviceBuffer, DeviceBuffer)>,
    pub prediction: DeviceBuffer,
    pub d_prediction: DeviceBuffer,
    pub targets: DeviceBuffer,
    pub mask: DeviceBuffer,
    pub lengths: Option<DeviceBuffer>,
    /// `[T, B]` u32.
    pub hold: Option<DeviceBuffer>,
    pub carried: Option<Carried>,
    pub dropout_state: DeviceBuffer,
    pub reserve: Option<DeviceBuffer>,
    pub status: DeviceBuffer,
    pub loss: DeviceBuffer,
    /// Two f32 a step, `[log_len, 2]`.
    pub log: DeviceBuffer,
    pub norm: DeviceBuffer,
    /// See [`Guard`](super::guard::Guard).
    pub guard: DeviceBuffer,
    pub workspace: DeviceBuffer,
    /// The log, and behind it the status and the guard.
    pub staging: DeviceBuffer,
}

/// What the rest of a step sees of a network of f16, and the network's own copy of its parameters.
#[derive(Debug)]
pub(super) struct Half {
    /// Stored as f16.
    pub params: DeviceBuffer,
    /// What the embedding makes and its gradient, f32.
    pub embedded: Option<(DeviceBuffer, DeviceBuffer)>,
    pub output: DeviceBuffer,
    pub d_output: DeviceBuffer,
}

/// What goes on from chunk to chunk.
#[derive(Debug)]
pub(super) struct Carried {
    /// `[S, L, B, H]`: where a chunk starts.
    pub state: DeviceBuffer,
    /// Where it ends: backward reads the start again.
    pub next_state: DeviceBuffer,
    /// `[T, B]` u32.
    pub reset: DeviceBuffer,
    /// `[B]` u32, each 1: what resets copy into the mask.
    pub ones: DeviceBuffer,
}

impl Buffers {
    pub fn new(ctx: &Context, config: &TrainConfig, parts: &Parts, weights: &Weights) -> Result<Self> {
        let of = Allocator::new(ctx, &parts.training.sizes(), "train");
        let zeros = |name: &str, size: u64| of.buffer(name, size);
        let some = |name: &str, size: u64| (size > 0).then(|| zeros(name, size)).transpose();
        let (plan, update, loss) = (parts.training.sizes(), parts.update.sizes(), parts.loss.sizes());
        let has_embedding = parts.embedding.is_some();
        let log_len = config.log_len as u64;
        let batch = config.shape.batch_size;
        let carried = config.carry_state.then(|| -> Result<_> {
            Ok(Carried {
                state: of.state("state")?,
                next_state: of.state("next_state")?,
                reset: of.reset()?,
                ones: ctx.upload("tidegate train ones", &vec![1u32; batch])?,
            })
        });
        let features = if parts.readout.is_some() { parts.head.sizes().input } else { 0 };
        let half = parts.half.as_ref().map(|sizes| -> Result<_> {
            let floats = |name: &str, len: u64| zeros(name, 4 * len);
            let embedded = || -> Result<_> { Ok((floats("embedded", sizes.input)?, floats("d_embedded", sizes.input)?)) };
            Ok(Half {
                params: zeros("params_f16", plan.params)?,
                embedded: has_embedding.then(embedded).transpose()?,
                output: floats("output_f32", sizes.output)?,
                d_output: floats("d_output_f32", sizes.output)?,
            })
        });
        Ok(Self {
            params: ctx.upload("tidegate train params", weights.values())?,
            d_params: zeros("d_params", update.params)?,
            first_moment: some("first_moment", update.first_moment)?,
            second_moment: some("second_moment", update.second_moment)?,
            hyper: zeros("hyper", update.hyper)?,
            hypers: zeros("hypers", update.hyper * log_len)?,
            tokens: parts.embedding.as_ref().map(|embedding| zeros("tokens", embedding.sizes().tokens)).transpose()?,
            input: of.input()?,
            d_input: has_embedding.then(|| of.d_input()).transpose()?,
            output: of.output()?,
            d_output: of.d_output()?,
            half: half.transpose()?,
            features: some("features", features)?.zip(some("d_features", features)?),
            prediction: zeros("prediction", loss.prediction)?,
            d_prediction: zeros("d_prediction", loss.prediction)?,
            targets: zeros("targets", loss.targets)?,
            mask: ctx.upload("tidegate train mask", &vec![1u32; config.predictions()])?,
            lengths: config
                .ragged
                .then(|| ctx.upload("tidegate train lengths", &vec![config.shape.seq_len as u32; batch]))
                .transpose()?,
            hold: config.holds.then(|| zeros("hold", plan.hold)).transpose()?,
            carried: carried.transpose()?,
            dropout_state: ctx
                .upload("tidegate train dropout_state", &DropoutKey { seed: config.dropout_seed, call: 0 }.words())?,
            reserve: of.reserve()?,
            status: of.status()?,
            loss: zeros("loss", loss.loss)?,
            log: zeros("log", loss.loss * log_len)?,
            norm: zeros("norm", 8)?,
            guard: ctx.upload("tidegate train guard", &guard::state_words(0, 0, (config.loss_scale.first, 0)))?,
            workspace: of.workspace(parts.workspace())?,
            staging: ctx.create_buffer(
                "tidegate train staging",
                loss.loss * log_len + plan.status + guard::STATE_BYTES,
                BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            )?,
        })
    }

    /// What the network's forward pass binds.
    pub fn rnn_forward<'a>(&'a self, layout: &Layout) -> ForwardBuffers<'a> {
        let carried = self.carried.as_ref();
        ForwardBuffers {
            initial_state: carried.map(|carried| whole(&carried.state)),
            final_state: carried.map(|carried| whole(&carried.next_state)),
            reset: carried.map(|carried| whole(&carried.reset)),
            lengths: self.lengths.as_deref().map(whole),
            hold: self.hold.as_deref().map(whole),
            dropout_state: Some(whole(&self.dropout_state)),
            reserve: self.reserve.as_deref().map(whole),
            status: Some(whole(&self.status)),
            ..ForwardBuffers::new(
                self.half.as_ref().map_or_else(|| part(&self.params, layout.rnn()), |half| whole(&half.params)),
                whole(&self.input),
                whole(&self.output),
                whole(&self.workspace),
            )
        }
    }

    /// What the embedding makes, f32, and where its gradient comes from.
    pub fn embedded(&self) -> [Option<&Buffer>; 2] {
        match &self.half {
            Some(half) => [half.embedded.as_ref().map(|(made, _)| &**made), half.embedded.as_ref().map(|(_, d)| &**d)],
            None => [Some(&self.input), self.d_input.as_deref()],
        }
    }

    /// The network's output as f32, and where its gradient goes.
    pub fn output(&self) -> [&Buffer; 2] {
        self.half.as_ref().map_or([&self.output, &self.d_output], |half| [&half.output, &half.d_output])
    }

    /// What the head reads, and where its gradient goes.
    pub fn head_input(&self) -> [&Buffer; 2] {
        self.features.as_ref().map_or_else(|| self.output(), |(features, d_features)| [features, d_features])
    }

    /// One pass with its resets before and the state's copy behind it.
    pub fn record(&self, work: &[Work], pending: &BTreeSet<usize>, has_resets: bool, encoder: &mut CommandEncoder) {
        if let Some(carried) = &self.carried {
            for (first, count) in runs(pending) {
                encoder.copy_buffer_to_buffer(&carried.ones, 0, &carried.reset, 4 * first as u64, 4 * count as u64);
            }
        }
        {
            let descriptor = wgpu::ComputePassDescriptor { label: Some("tidegate train"), timestamp_writes: None };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            work.iter().for_each(|work| work.dispatch(&mut pass));
        }
        if let Some(carried) = &self.carried {
            encoder.copy_buffer_to_buffer(&carried.next_state, 0, &carried.state, 0, carried.state.size());
            if has_resets || !pending.is_empty() {
                encoder.clear_buffer(&carried.reset, 0, None);
            }
        }
    }
}

pub(super) fn whole(buffer: &Buffer) -> BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
}

/// Elements of a flat block.
pub(super) fn part(buffer: &Buffer, range: Range<usize>) -> BufferBinding<'_> {
    let size = std::num::NonZeroU64::new(4 * range.len() as u64);
    BufferBinding { buffer, offset: 4 * range.start as u64, size }
}
