//! [`Embedding`]: rows of a table by token, and the gradient of the table.

use wgpu::BufferBinding;

use super::pass::{Pass, elements, reads, writes};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Role, Segment, Slot};
use crate::gpu::shaders::shader;

/// Sizes of an [`Embedding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingShape {
    /// Tokens of one call, T·B.
    pub rows: usize,
    /// V: how many different tokens there are.
    pub vocabulary: usize,
    /// E: features of a token.
    pub features: usize,
}

/// PyTorch's `nn.Embedding`: row r of the output is row `tokens[r]` of the parameters. A token that is not below V, `u32::MAX` say,
/// reads as zeros and gets no gradient.
///
/// The gradient is summed without atomics, for each token by ascending row: the same bits every time. To find equal tokens each
/// row looks for the next one and the one before, at most T·B rows away.
#[derive(Debug, Clone)]
pub struct Embedding {
    ctx: Context,
    shape: EmbeddingShape,
    params: u64,
    output: u64,
}

/// Bytes of the buffers of an [`Embedding`]; gradients have the size of what they are the gradient of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddingSizes {
    /// `[V, E]` f32.
    pub params: u64,
    /// `[rows]` u32.
    pub tokens: u64,
    /// `[rows, E]` f32.
    pub output: u64,
    /// Scratch of backward.
    pub workspace: u64,
}

/// Buffers of the lookup.
#[derive(Debug, Clone)]
pub struct EmbeddingForward<'a> {
    /// `[V, E]` f32. Read.
    pub params: BufferBinding<'a>,
    /// `[rows]` u32. Read.
    pub tokens: BufferBinding<'a>,
    /// `[rows, E]` f32. Written.
    pub output: BufferBinding<'a>,
}

/// Buffers of the gradient.
#[derive(Debug, Clone)]
pub struct EmbeddingBackward<'a> {
    /// `[rows]` u32, those of the lookup. Read.
    pub tokens: BufferBinding<'a>,
    /// `[rows, E]` f32. Read.
    pub d_output: BufferBinding<'a>,
    /// `[V, E]` f32. Written, all of it.
    pub d_params: BufferBinding<'a>,
    /// Scratch.
    pub workspace: BufferBinding<'a>,
}

sizes! {
    EmbeddingWords { rows, vocabulary, features, }
}

fn forward_source() -> KernelSource {
    let bindings = [Binding::read("tokens").of_u32(), Binding::read("weight"), Binding::write("output")];
    KernelSource::new(shader!("train/embedding_forward"), &[], &bindings, StepIndex::None, EmbeddingWords::WGSL)
}

fn links_source() -> KernelSource {
    let bindings = [Binding::read("tokens").of_u32(), Binding::write("links").of_u32(), Binding::write("d_weight")];
    KernelSource::new(shader!("train/embedding_links"), &[], &bindings, StepIndex::None, EmbeddingWords::WGSL)
}

fn backward_source() -> KernelSource {
    let bindings = [
        Binding::read("tokens").of_u32(),
        Binding::read("d_output"),
        Binding::write("links").of_u32(),
        Binding::write("d_weight"),
    ];
    KernelSource::new(shader!("train/embedding_backward"), &[], &bindings, StepIndex::None, EmbeddingWords::WGSL)
}

pub(super) fn sources() -> Vec<KernelSource> {
    vec![forward_source(), links_source(), backward_source()]
}

impl Embedding {
    /// Checks the sizes against the device and builds the pipelines.
    pub fn new(ctx: &Context, shape: EmbeddingShape) -> Result<Self> {
        let EmbeddingShape { rows, vocabulary, features } = shape;
        let params = elements(&[("vocabulary", vocabulary), ("features", features)])?;
        let output = elements(&[("rows", rows), ("features", features)])?;
        elements(&[("links", 2), ("rows", rows)])?;
        let embedding = Self { ctx: ctx.clone(), shape, params, output };
        embedding.forward()?;
        embedding.backward()?;
        Ok(embedding)
    }

    /// Bytes that each buffer must hold.
    pub fn sizes(&self) -> EmbeddingSizes {
        let rows = self.shape.rows as u64;
        EmbeddingSizes { params: 4 * self.params, tokens: 4 * rows, output: 4 * self.output, workspace: 8 * rows }
    }

    fn words(&self) -> EmbeddingWords {
        let EmbeddingShape { rows, vocabulary, features } = self.shape;
        EmbeddingWords { rows: rows as u32, vocabulary: vocabulary as u32, features: features as u32 }
    }

    fn tokens(&self) -> Slot {
        Slot::whole(Role::Tokens, self.shape.rows as u64)
    }

    fn forward(&self) -> Result<Vec<Segment>> {
        let kernel = self.ctx.kernel(forward_source());
        let slots = [self.tokens(), Slot::whole(Role::Params, self.params), Slot::whole(Role::Output, self.output)];
        let grid = elementwise(&self.ctx, self.output);
        Ok(vec![Dispatch::new(&self.ctx, kernel, &slots, &self.words(), grid)?.into()])
    }

    fn backward(&self) -> Result<Vec<Segment>> {
        let ctx = &self.ctx;
        let links = Slot::whole(Role::Workspace, 2 * self.shape.rows as u64);
        let (d_output, d_params) = (Slot::whole(Role::DOutput, self.output), Slot::whole(Role::DParams, self.params));
        let first = elementwise(ctx, self.params.max(self.shape.rows as u64));
        let then = elementwise(ctx, self.output);
        let slots = [self.tokens(), d_output, links, d_params];
        Ok(vec![
            Dispatch::new(ctx, ctx.kernel(links_source()), &[self.tokens(), links, d_params], &self.words(), first)?.into(),
            Dispatch::new(ctx, ctx.kernel(backward_source()), &slots, &self.words(), then)?.into(),
        ])
    }

    /// Binds the lookup.
    pub fn bind_forward(&self, buffers: &EmbeddingForward<'_>) -> Result<Pass> {
        let sizes = self.sizes();
        let uses = [
            reads(Role::Params, &buffers.params, sizes.params),
            reads(Role::Tokens, &buffers.tokens, sizes.tokens),
            writes(Role::Output, &buffers.output, sizes.output),
        ];
        Pass::bind(&self.ctx, "tidegate embedding", &self.forward()?, &uses)
    }

    /// Binds the gradient.
    pub fn bind_backward(&self, buffers: &EmbeddingBackward<'_>) -> Result<Pass> {
        let sizes = self.sizes();
        let uses = [
            reads(Role::Tokens, &buffers.tokens, sizes.tokens),
            reads(Role::DOutput, &buffers.d_output, sizes.output),
            writes(Role::DParams, &buffers.d_params, sizes.params),
            writes(Role::Workspace, &buffers.workspace, sizes.workspace),
        ];
        Pass::bind(&self.ctx, "tidegate embedding backward", &self.backward()?, &uses)
    }
}
