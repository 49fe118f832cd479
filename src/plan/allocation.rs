//! The buffers of a plan, allocated as its sizes say: for apps, calls, checks, sessions and training.

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

/// Makes the buffers of a plan, each as large as its sizes say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocator<'a> {
    ctx: &'a Context,
    sizes: BufferSizes,
    /// Whose buffers they are, in wgpu's labels.
    owner: &'static str,
    fill: Fill,
}

impl<'a> Allocator<'a> {
    pub fn new(ctx: &'a Context, sizes: &BufferSizes, owner: &'static str) -> Self {
        Self { ctx, sizes: *sizes, owner, fill: Fill::Zeros }
    }

    /// A buffer of the owner's own, of that many bytes.
    pub fn buffer(&self, name: &str, bytes: u64) -> Result<DeviceBuffer> {
        self.fill.buffer(self.ctx, &format!("tidegate {} {name}", self.owner), bytes)
    }

    pub fn input(&self) -> Result<DeviceBuffer> {
        self.buffer("input", self.sizes.input)
    }

    pub fn d_input(&self) -> Result<DeviceBuffer> {
        self.buffer("d_input", self.sizes.input)
    }

    pub fn output(&self) -> Result<DeviceBuffer> {
        self.buffer("output", self.sizes.output)
    }

    pub fn d_output(&self) -> Result<DeviceBuffer> {
        self.buffer("d_output", self.sizes.output)
    }

    /// A state, or its gradient.
    pub fn state(&self, name: &str) -> Result<DeviceBuffer> {
        self.buffer(name, self.sizes.state)
    }

    pub fn reset(&self) -> Result<DeviceBuffer> {
        self.buffer("reset", self.sizes.reset)
    }

    pub fn d_params(&self) -> Result<DeviceBuffer> {
        self.buffer("d_params", self.sizes.d_params)
    }

    /// None if nothing is kept.
    pub fn reserve(&self) -> Result<Option<DeviceBuffer>> {
        (self.sizes.reserve > 0).then(|| self.buffer("reserve", self.sizes.reserve)).transpose()
    }

    /// Zeros in any case: it counts.
    pub fn status(&self) -> Result<DeviceBuffer> {
        Self { fill: Fill::Zeros, ..*self }.buffer("status", self.sizes.status)
    }

    /// At least that many bytes, for whoever else works in it.
    pub fn workspace(&self, least: u64) -> Result<DeviceBuffer> {
        self.buffer("workspace", self.sizes.workspace.max(least))
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
        let of = Allocator { fill, ..Allocator::new(ctx, sizes, "call") };
        Ok(Self {
            output: owned.keep(of.output())?,
            final_state: owned.keep(of.state("final_state"))?,
            reserve: of.reserve()?.map(|reserve| owned.keep(Ok(reserve))).transpose()?,
            status: owned.keep(of.status())?,
            workspace: owned.keep(of.workspace(0))?,
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
        let of = Allocator { fill, ..Allocator::new(ctx, sizes, "call") };
        Ok(Self {
            d_input: owned.keep(of.d_input())?,
            d_params: owned.keep(of.d_params())?,
            d_initial_state: owned.keep(of.state("d_initial_state"))?,
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
