//! The buffers of a plan, allocated as its sizes say: for calls, checks, sessions and training.

use wgpu::{Buffer, BufferUsages};

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::owned::OwnedBuffers;
use crate::plan::{BackwardBuffers, BufferSizes, ForwardBuffers};

/// What stands in a buffer before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Zeros,
    /// NaN in every number, so that what a kernel leaves out shows.
    Poison,
}

impl Fill {
    fn buffer(self, ctx: &Context, label: &str, bytes: u64) -> Result<Buffer> {
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
    pub fn buffer(&self, name: &str, bytes: u64) -> Result<Buffer> {
        self.fill.buffer(self.ctx, &format!("tidegate {} {name}", self.owner), bytes)
    }

    pub fn input(&self) -> Result<Buffer> {
        self.buffer("input", self.sizes.input)
    }

    pub fn d_input(&self) -> Result<Buffer> {
        self.buffer("d_input", self.sizes.input)
    }

    pub fn output(&self) -> Result<Buffer> {
        self.buffer("output", self.sizes.output)
    }

    pub fn d_output(&self) -> Result<Buffer> {
        self.buffer("d_output", self.sizes.output)
    }

    /// A state, or its gradient.
    pub fn state(&self, name: &str) -> Result<Buffer> {
        self.buffer(name, self.sizes.state)
    }

    pub fn reset(&self) -> Result<Buffer> {
        self.buffer("reset", self.sizes.reset)
    }

    pub fn d_params(&self) -> Result<Buffer> {
        self.buffer("d_params", self.sizes.d_params)
    }

    /// None if nothing is kept.
    pub fn reserve(&self) -> Result<Option<Buffer>> {
        (self.sizes.reserve > 0).then(|| self.buffer("reserve", self.sizes.reserve)).transpose()
    }

    /// Zeros in any case: it counts.
    pub fn status(&self) -> Result<Buffer> {
        Self { fill: Fill::Zeros, ..*self }.buffer("status", self.sizes.status)
    }

    /// At least that many bytes, for whoever else works in it.
    pub fn workspace(&self, least: u64) -> Result<Buffer> {
        self.buffer("workspace", self.sizes.workspace.max(least))
    }
}

/// What a forward pass writes and works in, destroyed when it is dropped. Inputs are the caller's.
#[derive(Debug)]
pub(crate) struct PlanBuffers {
    pub output: Buffer,
    pub final_state: Buffer,
    pub reserve: Option<Buffer>,
    pub status: Buffer,
    pub workspace: Buffer,
    owned: OwnedBuffers,
}

impl PlanBuffers {
    pub fn new(ctx: &Context, sizes: &BufferSizes, fill: Fill) -> Result<Self> {
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
    pub fn keep(&self, buffer: Result<Buffer>) -> Result<Buffer> {
        self.owned.keep(buffer)
    }

    /// Everything bound that is here; the optional inputs are fields to set.
    pub fn forward<'a>(&'a self, params: &'a Buffer, input: &'a Buffer) -> ForwardBuffers<'a> {
        let whole = Buffer::as_entire_buffer_binding;
        ForwardBuffers {
            final_state: Some(whole(&self.final_state)),
            reserve: self.reserve.as_ref().map(whole),
            status: Some(whole(&self.status)),
            ..ForwardBuffers::new(whole(params), whole(input), whole(&self.output), whole(&self.workspace))
        }
    }
}

/// What a backward pass writes.
#[derive(Debug)]
pub(crate) struct GradientBuffers {
    pub d_input: Buffer,
    pub d_params: Buffer,
    pub d_initial_state: Buffer,
    _owned: OwnedBuffers,
}

impl GradientBuffers {
    pub fn new(ctx: &Context, sizes: &BufferSizes, fill: Fill) -> Result<Self> {
        let owned = OwnedBuffers::default();
        let of = Allocator { fill, ..Allocator::new(ctx, sizes, "call") };
        Ok(Self {
            d_input: owned.keep(of.d_input())?,
            d_params: owned.keep(of.d_params())?,
            d_initial_state: owned.keep(of.state("d_initial_state"))?,
            _owned: owned,
        })
    }

    /// Everything bound that is here; without a gradient of the final state.
    pub fn backward<'a>(&'a self, forward: ForwardBuffers<'a>, d_output: &'a Buffer) -> BackwardBuffers<'a> {
        let whole = Buffer::as_entire_buffer_binding;
        BackwardBuffers {
            d_input: Some(whole(&self.d_input)),
            d_initial_state: Some(whole(&self.d_initial_state)),
            ..BackwardBuffers::new(forward, whole(d_output), whole(&self.d_params))
        }
    }
}
