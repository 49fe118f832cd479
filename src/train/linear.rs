//! [`Linear`]: the head that turns features into predictions.

use wgpu::BufferBinding;

use super::pass::{Pass, elements, reads, writes};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::program::{Role, Segment, Slot};
use crate::product::{ColumnSum, Matrix, Product, Splits, Tiles, matmuls, reduce, splits};

/// Sizes of a [`Linear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of one call.
    pub rows: usize,
    /// F: features of an input row.
    pub in_features: usize,
    /// C: features of an output row.
    pub out_features: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// PyTorch's `nn.Linear`: output = input·weightᵀ + bias. Its parameters are one block: `weight` `[C, F]`, then `bias` `[C]`.
#[derive(Debug, Clone)]
pub struct Linear {
    ctx: Context,
    shape: LinearShape,
    input: u64,
    output: u64,
    params: u64,
    /// Parts that the sum over rows is cut into.
    splits: u64,
}

/// Bytes of the buffers of a [`Linear`]; gradients have the size of what they are the gradient of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinearSizes {
    /// `weight` `[C, F]`, then `bias` `[C]`, f32.
    pub params: u64,
    /// `[rows, F]` f32.
    pub input: u64,
    /// `[rows, C]` f32.
    pub output: u64,
    /// Scratch of backward.
    pub workspace: u64,
}

/// Buffers of the product.
#[derive(Debug, Clone)]
pub struct LinearForward<'a> {
    /// `weight` `[C, F]`, then `bias` `[C]`. Read.
    pub params: BufferBinding<'a>,
    /// `[rows, F]` f32. Read.
    pub input: BufferBinding<'a>,
    /// `[rows, C]` f32. Written.
    pub output: BufferBinding<'a>,
}

/// Buffers of the gradients.
#[derive(Debug, Clone)]
pub struct LinearBackward<'a> {
    /// Those of the product. Read.
    pub params: BufferBinding<'a>,
    /// `[rows, F]` f32, that of the product. Read; must be finite in rows without a gradient too, as 0·NaN is NaN.
    pub input: BufferBinding<'a>,
    /// `[rows, C]` f32. Read.
    pub d_output: BufferBinding<'a>,
    /// As `params`. Written.
    pub d_params: BufferBinding<'a>,
    /// As `input`. Written; leaving it out saves a product.
    pub d_input: Option<BufferBinding<'a>>,
    /// Scratch.
    pub workspace: BufferBinding<'a>,
}

impl Linear {
    /// Checks the sizes against the device and builds the pipelines.
    pub fn new(ctx: &Context, shape: LinearShape) -> Result<Self> {
        let LinearShape { rows, in_features, out_features, bias } = shape;
        let input = elements(&[("rows", rows), ("in_features", in_features)])?;
        let output = elements(&[("rows", rows), ("out_features", out_features)])?;
        let columns = in_features.saturating_add(bias.into());
        let params = elements(&[("out_features", out_features), ("in_features + bias", columns)])?;
        // Parts of at least 64 rows, and partial sums that one binding holds.
        let fitting = ctx.limits().max_storage_buffer_binding_size / (4 * params);
        let most = (rows as u64).div_ceil(64).min(64).min(fitting).max(1);
        let splits = splits(ctx, Tiles::default(), [out_features as u64, in_features as u64], 1, most);
        let linear = Self { ctx: ctx.clone(), shape, input, output, params, splits };
        linear.forward()?;
        linear.backward(true)?;
        Ok(linear)
    }

    /// Bytes that each buffer must hold.
    pub fn sizes(&self) -> LinearSizes {
        let [params, input, output] = [self.params, self.input, self.output].map(|n| 4 * n);
        LinearSizes { params, input, output, workspace: params * self.splits }
    }

    fn dims(&self) -> [u64; 3] {
        [self.shape.rows, self.shape.in_features, self.shape.out_features].map(|n| n as u64)
    }

    fn forward(&self) -> Result<Vec<Segment>> {
        let [rows, features, classes] = self.dims();
        let product = Product {
            m: rows,
            n: classes,
            k: features,
            batches: 1,
            a: Matrix::rows(Slot::whole(Role::Input, self.input), features),
            b: Matrix::rows(Slot::whole(Role::Params, self.params), features).transposed(),
            c: Matrix::rows(Slot::whole(Role::Output, self.output), classes),
            bias: self.shape.bias.then_some(classes * features),
            accumulate: false,
            splits: Splits::NONE,
        };
        matmuls(&self.ctx, Tiles::default(), &product)
    }

    fn backward(&self, d_input: bool) -> Result<Vec<Segment>> {
        let ctx = &self.ctx;
        let [rows, features, classes] = self.dims();
        let d_output = Matrix::rows(Slot::whole(Role::DOutput, self.output), classes);
        let d_params = Slot::whole(Role::DParams, self.params);
        // A sum that is not cut goes where it belongs.
        let whole = self.splits == 1;
        let parts = if whole { d_params } else { Slot::whole(Role::Workspace, self.params * self.splits) };
        let partial = Matrix::rows(parts, features);
        let splits = Splits { count: self.splits, stride: self.params };
        let weight = Product {
            m: classes,
            n: features,
            k: rows,
            batches: 1,
            a: d_output.transposed(),
            b: Matrix::rows(Slot::whole(Role::Input, self.input), features),
            c: partial,
            bias: None,
            accumulate: false,
            splits,
        };
        let mut program = matmuls(ctx, Tiles::default(), &weight)?;
        if self.shape.bias {
            let c = partial.at(classes * features);
            let sum = ColumnSum { rows, columns: classes, batches: 1, a: d_output, c, twin: 0, accumulate: false, splits };
            program.push(sum.dispatch(ctx)?.into());
        }
        if !whole {
            program.push(reduce(ctx, partial.slot, self.splits, d_params, 0..self.params, false)?.into());
        }
        if d_input {
            let product = Product {
                m: rows,
                n: features,
                k: classes,
                a: d_output,
                b: Matrix::rows(Slot::whole(Role::Params, self.params), features),
                c: Matrix::rows(Slot::whole(Role::DInput, self.input), features),
                splits: Splits::NONE,
                ..weight
            };
            program.extend(matmuls(ctx, Tiles::default(), &product)?);
        }
        Ok(program)
    }

    /// Binds the product.
    pub fn bind_forward(&self, buffers: &LinearForward<'_>) -> Result<Pass> {
        let sizes = self.sizes();
        let uses = [
            reads(Role::Params, &buffers.params, sizes.params),
            reads(Role::Input, &buffers.input, sizes.input),
            writes(Role::Output, &buffers.output, sizes.output),
        ];
        Pass::bind(&self.ctx, "tidegate linear", &self.forward()?, &uses)
    }

    /// Binds the gradients.
    pub fn bind_backward(&self, buffers: &LinearBackward<'_>) -> Result<Pass> {
        let sizes = self.sizes();
        let uses = [
            reads(Role::Params, &buffers.params, sizes.params),
            reads(Role::Input, &buffers.input, sizes.input),
            reads(Role::DOutput, &buffers.d_output, sizes.output),
            writes(Role::DParams, &buffers.d_params, sizes.params),
            writes(Role::DInput, buffers.d_input.as_ref(), sizes.input),
            writes(Role::Workspace, &buffers.workspace, sizes.workspace),
        ];
        Pass::bind(&self.ctx, "tidegate linear backward", &self.backward(buffers.d_input.is_some())?, &uses)
    }
}
