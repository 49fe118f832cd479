//! The buffers of a plan, owned: allocated as its sizes say, destroyed with what they were made for.

use wgpu::BufferUsages;

use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;
use crate::plan::binding::IntoBinding;
use crate::plan::{BackwardBuffers, BufferSizes, ForwardBuffers, Plan};

/// What stands in a buffer before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Zeros,
    /// NaN in every number, so that what a kernel leaves out shows.
    Poison,
}

impl Fill {
    fn buffer(self, ctx: &Context, label: &str, bytes: u64) -> Result<DeviceBuffer> {
        match self {
            Self::Zeros => {
                let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
                ctx.create_buffer(label, bytes, usage)
            }
            Self::Poison => ctx.upload(label, &vec![u32::MAX; (bytes / 4) as usize]),
        }
    }
}

/// What a forward pass writes and works in, allocated by [`Plan::allocate`]: what an app has no buffers of its own for. Each has
/// usages `STORAGE`, `COPY_SRC` and `COPY_DST`, starts as zeros, and lives as any wgpu buffer does: while this or a bound pass has it.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlanBuffers {
    /// `[T, B, D·H]`, `[B, T, D·H]` if batch-first, stored as the network's [`Dtype`](crate::Dtype).
    pub output: DeviceBuffer,
    /// `[S, L·D, B, H]` f32.
    pub final_state: DeviceBuffer,
    /// What forward keeps for backward, where a plan has such a thing.
    pub reserve: Option<DeviceBuffer>,
    /// Four u32 of strategy persistent, see [`BufferSizes::status`].
    pub status: DeviceBuffer,
    /// Scratch.
    pub workspace: DeviceBuffer,
    owned: OwnedBuffers,
}

impl Plan {
    /// Allocates what a forward pass writes and works in; params and input are the app's, as [`Rnn::upload`](crate::Rnn::upload) and
    /// [`Context::upload`] make them. See [`PlanBuffers::forward`].
    pub fn allocate(&self) -> Result<PlanBuffers> {
        let buffers = PlanBuffers::new(&self.ctx, &self.sizes(), Fill::Zeros)?;
        buffers.owned.release();
        Ok(buffers)
    }

    /// Allocates what a backward pass writes. See [`GradientBuffers::backward`].
    pub fn allocate_gradients(&self) -> Result<GradientBuffers> {
        let buffers = GradientBuffers::new(&self.ctx, &self.sizes(), Fill::Zeros)?;
        buffers.owned.release();
        Ok(buffers)
    }
}

impl PlanBuffers {
    pub(crate) fn new(ctx: &Context, sizes: &BufferSizes, fill: Fill) -> Result<Self> {
        let owned = OwnedBuffers::default();
        let buffer = |label, bytes| owned.keep(fill.buffer(ctx, label, bytes));
        Ok(Self {
            output: buffer("output", sizes.output)?,
            final_state: buffer("final_state", sizes.state)?,
            reserve: (sizes.reserve > 0).then(|| buffer("reserve", sizes.reserve)).transpose()?,
            status: owned.keep(Fill::Zeros.buffer(ctx, "status", sizes.status))?,
            workspace: buffer("workspace", sizes.workspace)?,
            owned,
        })
    }

    /// Takes a buffer of the same lifetime, an input.
    pub(crate) fn keep(&self, buffer: Result<DeviceBuffer>) -> Result<DeviceBuffer> {
        self.owned.keep(buffer)
    }

    /// Binds all that is here; the optional inputs are fields to set.
    pub fn forward<'a>(&'a self, params: impl IntoBinding<'a>, input: impl IntoBinding<'a>) -> ForwardBuffers<'a> {
        let buffers = ForwardBuffers::new(params, input, &self.output, &self.workspace)
            .with_final_state(&self.final_state)
            .with_status(&self.status);
        ForwardBuffers { reserve: self.reserve.as_ref().map(IntoBinding::into_binding), ..buffers }
    }
}

/// What a backward pass writes, allocated by [`Plan::allocate_gradients`]; as [`PlanBuffers`] in all else.
#[derive(Debug)]
#[non_exhaustive]
pub struct GradientBuffers {
    /// As the input.
    pub d_input: DeviceBuffer,
    /// The flat parameter block, f32.
    pub d_params: DeviceBuffer,
    /// `[S, L·D, B, H]` f32.
    pub d_initial_state: DeviceBuffer,
    owned: OwnedBuffers,
}

impl GradientBuffers {
    pub(crate) fn new(ctx: &Context, sizes: &BufferSizes, fill: Fill) -> Result<Self> {
        let owned = OwnedBuffers::default();
        let buffer = |label, bytes| owned.keep(fill.buffer(ctx, label, bytes));
        Ok(Self {
            d_input: buffer("d_input", sizes.input)?,
            d_params: buffer("d_params", sizes.d_params)?,
            d_initial_state: buffer("d_initial_state", sizes.state)?,
            owned,
        })
    }

    /// Binds all that is here; the gradient of the final state is a field to set.
    pub fn backward<'a>(&'a self, forward: ForwardBuffers<'a>, d_output: impl IntoBinding<'a>) -> BackwardBuffers<'a> {
        BackwardBuffers::new(forward, d_output, &self.d_params)
            .with_d_input(&self.d_input)
            .with_d_initial_state(&self.d_initial_state)
    }
}
