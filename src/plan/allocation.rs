//! The buffers of a plan, owned: allocated as its sizes say, destroyed with what they were made for.

use wgpu::{Buffer, BufferUsages};

use crate::error::Result;
use crate::gpu::buffer::DeviceBuffer;
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

/// What a forward pass writes and works in. Inputs are the caller's.
#[derive(Debug)]
pub(crate) struct PlanBuffers {
    pub output: DeviceBuffer,
    pub final_state: DeviceBuffer,
    pub reserve: Option<DeviceBuffer>,
    /// Zeros in any case: it counts.
    pub status: DeviceBuffer,
    pub workspace: DeviceBuffer,
    owned: OwnedBuffers,
}

impl PlanBuffers {
    pub fn new(ctx: &Context, sizes: &BufferSizes, fill: Fill) -> Result<Self> {
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
    pub fn keep(&self, buffer: Result<DeviceBuffer>) -> Result<DeviceBuffer> {
        self.owned.keep(buffer)
    }

    /// Everything bound that is here; the optional inputs are fields to set.
    pub fn forward<'a>(&'a self, params: &'a Buffer, input: &'a Buffer) -> ForwardBuffers<'a> {
        let whole = Buffer::as_entire_buffer_binding;
        ForwardBuffers {
            final_state: Some(whole(&self.final_state)),
            reserve: self.reserve.as_deref().map(whole),
            status: Some(whole(&self.status)),
            ..ForwardBuffers::new(whole(params), whole(input), whole(&self.output), whole(&self.workspace))
        }
    }
}

/// What a backward pass writes.
#[derive(Debug)]
pub(crate) struct GradientBuffers {
    pub d_input: DeviceBuffer,
    pub d_params: DeviceBuffer,
    pub d_initial_state: DeviceBuffer,
    _owned: OwnedBuffers,
}

impl GradientBuffers {
    pub fn new(ctx: &Context, sizes: &BufferSizes, fill: Fill) -> Result<Self> {
        let owned = OwnedBuffers::default();
        let buffer = |label, bytes| owned.keep(fill.buffer(ctx, label, bytes));
        Ok(Self {
            d_input: buffer("d_input", sizes.input)?,
            d_params: buffer("d_params", sizes.d_params)?,
            d_initial_state: buffer("d_initial_state", sizes.state)?,
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
