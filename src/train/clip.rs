//! [`Clip`]: bounds on gradients before an optimizer sees them.

use wgpu::BufferBinding;

use super::pass::{Pass, elements, writes};
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Role, Segment, Slot};
use crate::gpu::shaders::shader;

/// A bound on gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// PyTorch's `clip_grad_norm_`: all gradients times min(1, bound / (norm + 1e-6)), with the norm over all of them.
    Norm(f32),
    /// PyTorch's `clip_grad_value_`: each gradient into ±bound.
    Value(f32),
}

/// A [`Clip`] of a gradient block.
#[derive(Debug, Clone)]
pub struct Clipping {
    ctx: Context,
    clip: Clip,
    len: u64,
    /// Whether the norm is all that is wanted.
    measures: bool,
}

/// Bytes of the buffers of a [`Clipping`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClipSizes {
    /// The flat gradient block, f32.
    pub d_params: u64,
    /// Two f32: the norm before clipping, and what the gradients were multiplied by.
    pub norm: u64,
    /// Scratch.
    pub workspace: u64,
}

/// Buffers of a [`Clipping`].
#[derive(Debug, Clone)]
pub struct ClipBuffers<'a> {
    /// The flat gradient block, f32; padding between tensors must be 0. Read and written.
    pub d_params: BufferBinding<'a>,
    /// Two f32: the norm before clipping, and what the gradients were multiplied by. Written by [`Clip::Norm`] alone.
    pub norm: BufferBinding<'a>,
    /// Scratch of [`Clip::Norm`].
    pub workspace: BufferBinding<'a>,
}

sizes! {
    ClipWords {
        len, partials,
        /// The bits of the f32 bound.
        most,
    }
}

/// Most workgroups that sum squares.
const PARTIALS: u64 = 256;

fn squares_source() -> KernelSource {
    let bindings = [Binding::read("gradients"), Binding::write("partial")];
    KernelSource::new(shader!("train/squared_sums"), &[], &bindings, StepIndex::None, ClipWords::WGSL)
}

fn norm_source() -> KernelSource {
    let bindings = [Binding::write("partial"), Binding::write("norm")];
    KernelSource::new(shader!("train/norm_total"), &[], &bindings, StepIndex::None, ClipWords::WGSL)
}

fn scale_source() -> KernelSource {
    let bindings = [Binding::write("norm"), Binding::write("gradients")];
    KernelSource::new(shader!("train/clip_norm"), &[], &bindings, StepIndex::None, ClipWords::WGSL)
}

fn value_source() -> KernelSource {
    KernelSource::new(shader!("train/clip_value"), &[], &[Binding::write("gradients")], StepIndex::None, ClipWords::WGSL)
}

pub(super) fn sources() -> Vec<KernelSource> {
    vec![squares_source(), norm_source(), scale_source(), value_source()]
}

impl Clip {
    fn bound(self) -> f32 {
        match self {
            Self::Norm(bound) | Self::Value(bound) => bound,
        }
    }
}

impl Clipping {
    /// Clips a block of `len` gradients. Refuses a bound that is not a positive number.
    pub fn new(ctx: &Context, clip: Clip, len: usize) -> Result<Self> {
        let bound = clip.bound();
        if !(bound > 0.0 && bound.is_finite()) {
            return Err(Error::Config(format!("clip bound is {bound}, must be positive and finite")));
        }
        let clipping = Self { ctx: ctx.clone(), clip, len: elements(&[("gradients", len)])?, measures: false };
        clipping.program()?;
        Ok(clipping)
    }

    /// The norm alone: the gradients stay.
    pub(super) fn measuring(ctx: &Context, len: usize) -> Result<Self> {
        Ok(Self { measures: true, ..Self::new(ctx, Clip::Norm(f32::MAX), len)? })
    }

    /// Bytes that each buffer must hold.
    pub fn sizes(&self) -> ClipSizes {
        ClipSizes { d_params: 4 * self.len, norm: 8, workspace: 4 * self.partials() }
    }

    fn partials(&self) -> u64 {
        self.len.div_ceil(1024).min(PARTIALS)
    }

    fn program(&self) -> Result<Vec<Segment>> {
        let (ctx, partials) = (&self.ctx, self.partials());
        let words = ClipWords { len: self.len as u32, partials: partials as u32, most: self.clip.bound().to_bits() };
        let gradients = Slot::whole(Role::DParams, self.len);
        let grid = elementwise(ctx, self.len);
        if let Clip::Value(_) = self.clip {
            return Ok(vec![Dispatch::new(ctx, ctx.kernel(value_source()), &[gradients], &words, grid)?.into()]);
        }
        let (partial, norm) = (Slot::whole(Role::Workspace, partials), Slot::whole(Role::Norm, 2));
        let mut program = vec![
            Dispatch::new(ctx, ctx.kernel(squares_source()), &[gradients, partial], &words, [partials, 1, 1])?.into(),
            Dispatch::new(ctx, ctx.kernel(norm_source()), &[partial, norm], &words, [1; 3])?.into(),
        ];
        if !self.measures {
            program.push(Dispatch::new(ctx, ctx.kernel(scale_source()), &[norm, gradients], &words, grid)?.into());
        }
        Ok(program)
    }

    /// Binds it.
    pub fn bind(&self, buffers: &ClipBuffers<'_>) -> Result<Pass> {
        let sizes = self.sizes();
        let mut uses = vec![writes(Role::DParams, &buffers.d_params, sizes.d_params)];
        if let Clip::Norm(_) = self.clip {
            uses.push(writes(Role::Norm, &buffers.norm, sizes.norm));
            uses.push(writes(Role::Workspace, &buffers.workspace, sizes.workspace));
        }
        Pass::bind(&self.ctx, "tidegate clip", &self.program()?, &uses)
    }
}
