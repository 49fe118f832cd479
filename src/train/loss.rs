//! [`Loss`]: softmax cross-entropy and mean squared error of masked rows, with their gradients.

use wgpu::BufferBinding;

use super::pass::{Pass, elements, reads, writes};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Role, Segment, Slot};
use crate::gpu::shaders::{File, shader};

/// Label of a row that does not count, as any that is not below the number of classes.
pub const IGNORE: u32 = u32::MAX;

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objective {
    /// PyTorch's `CrossEntropyLoss`: the mean of -log softmax(prediction)\[label\] over the rows that count; targets are u32 labels.
    CrossEntropy,
    /// PyTorch's `MSELoss`: the mean of (prediction − target)² over all features of the rows that count; targets are f32.
    MeanSquaredError,
}

/// Sizes of a [`Loss`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossShape {
    /// Rows of one call.
    pub rows: usize,
    /// C: classes, or features of a target.
    pub features: usize,
}

/// The mean loss over the rows that count, and its gradient. Where no row counts both are 0, where PyTorch's loss is NaN.
///
/// A row counts if its word of the mask, if there is one, is not 0 and, in a classification, its label is below C. Sums go in a fixed
/// order, so the same input gives the same bits.
#[derive(Debug, Clone)]
pub struct Loss {
    ctx: Context,
    objective: Objective,
    shape: LossShape,
    prediction: u64,
    /// Threads that share a row of a cross-entropy.
    lanes: u32,
}

/// Bytes of the buffers of a [`Loss`]; `d_prediction` has the size of `prediction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LossSizes {
    /// `[rows, C]` f32.
    pub prediction: u64,
    /// `[rows]` u32 labels, or `[rows, C]` f32.
    pub targets: u64,
    /// `[rows]` u32.
    pub mask: u64,
    /// Two f32: the mean loss, and how many rows count.
    pub loss: u64,
    /// Scratch.
    pub workspace: u64,
}

/// Buffers of a [`Loss`].
#[derive(Debug, Clone)]
pub struct LossBuffers<'a> {
    /// `[rows, C]` f32: logits, or values. Read; may hold anything in rows that do not count.
    pub prediction: BufferBinding<'a>,
    /// `[rows]` u32 labels, or `[rows, C]` f32. Read.
    pub targets: BufferBinding<'a>,
    /// `[rows]` u32: 0 where a row does not count. Read.
    pub mask: Option<BufferBinding<'a>>,
    /// `[rows, C]` f32. Written, with 0 in rows that do not count.
    pub d_prediction: BufferBinding<'a>,
    /// Two f32: the mean loss, and how many rows count. Written.
    pub loss: BufferBinding<'a>,
    /// Scratch.
    pub workspace: BufferBinding<'a>,
}

sizes! {
    LossWords { rows, features, has_mask, of_row, }
}

fn counted(objective: Objective) -> File {
    match objective {
        Objective::CrossEntropy => shader!("train/counted_labels"),
        Objective::MeanSquaredError => shader!("train/counted_rows"),
    }
}

fn count_source(objective: Objective) -> KernelSource {
    let bindings = [Binding::read("targets").of_u32(), Binding::read("mask").of_u32(), Binding::write("loss")];
    KernelSource::new(shader!("train/loss_count"), &[], &bindings, StepIndex::None, LossWords::WGSL).with_file(counted(objective))
}

fn rows_source(objective: Objective, lanes: u32) -> KernelSource {
    let targets = Binding::read("targets");
    let (file, targets, constants) = match objective {
        Objective::CrossEntropy => (shader!("train/cross_entropy"), targets.of_u32(), vec![("LANES", lanes)]),
        Objective::MeanSquaredError => (shader!("train/mean_squared_error"), targets, Vec::new()),
    };
    let bindings = [
        Binding::read("prediction"),
        targets,
        Binding::read("mask").of_u32(),
        Binding::write("loss"),
        Binding::write("d_prediction"),
        Binding::write("row_loss"),
    ];
    KernelSource::new(file, &constants, &bindings, StepIndex::None, LossWords::WGSL).with_file(counted(objective))
}

fn total_source() -> KernelSource {
    let bindings = [Binding::write("row_loss"), Binding::write("loss")];
    KernelSource::new(shader!("train/loss_total"), &[], &bindings, StepIndex::None, LossWords::WGSL)
}

pub(super) fn sources() -> Vec<KernelSource> {
    let mut sources = vec![total_source()];
    for objective in [Objective::CrossEntropy, Objective::MeanSquaredError] {
        sources.push(count_source(objective));
        sources.extend([1, 16, 64].map(|lanes| rows_source(objective, lanes)));
    }
    sources
}

/// How many threads share a row of a cross-entropy: on a CPU adapter barriers cost more than they bring.
fn lanes(ctx: &Context, classes: usize) -> u32 {
    if ctx.is_software() { 1 } else { classes.div_ceil(4).next_power_of_two().min(64) as u32 }
}

impl Loss {
    /// Checks the sizes against the device and builds the pipelines.
    pub fn new(ctx: &Context, objective: Objective, shape: LossShape) -> Result<Self> {
        let prediction = elements(&[("rows", shape.rows), ("features", shape.features)])?;
        let loss = Self { ctx: ctx.clone(), objective, shape, prediction, lanes: lanes(ctx, shape.features) };
        loss.program(true)?;
        Ok(loss)
    }

    /// Bytes that each buffer must hold.
    pub fn sizes(&self) -> LossSizes {
        let (rows, prediction) = (4 * self.shape.rows as u64, 4 * self.prediction);
        let targets = if self.objective == Objective::CrossEntropy { rows } else { prediction };
        LossSizes { prediction, targets, mask: rows, loss: 8, workspace: rows }
    }

    fn program(&self, mask: bool) -> Result<Vec<Segment>> {
        let ctx = &self.ctx;
        let LossShape { rows, features } = self.shape;
        let of_row = if self.objective == Objective::CrossEntropy { 1 } else { features as u32 };
        let words = LossWords { rows: rows as u32, features: features as u32, has_mask: mask.into(), of_row };
        let prediction = Slot::whole(Role::Prediction, self.prediction);
        let targets = Slot::whole(Role::Targets, self.sizes().targets / 4);
        let mask = Slot::whole(Role::Mask, rows as u64).only_if(mask);
        let (loss, row_loss) = (Slot::whole(Role::Loss, 2), Slot::whole(Role::Workspace, rows as u64));
        let d_prediction = Slot::whole(Role::DPrediction, self.prediction);
        let slots = [prediction, targets, mask, loss, d_prediction, row_loss];
        let kernels = [count_source(self.objective), rows_source(self.objective, self.lanes), total_source()]
            .map(|source| ctx.kernel(source));
        let [count, each_row, total] = kernels;
        let grid = elementwise(ctx, rows as u64 * if self.objective == Objective::CrossEntropy { self.lanes.into() } else { 1 });
        Ok(vec![
            Dispatch::new(ctx, count, &[targets, mask, loss], &words, [1; 3])?.into(),
            Dispatch::new(ctx, each_row, &slots, &words, grid)?.into(),
            Dispatch::new(ctx, total, &[row_loss, loss], &words, [1; 3])?.into(),
        ])
    }

    /// Binds loss and gradient.
    pub fn bind(&self, buffers: &LossBuffers<'_>) -> Result<Pass> {
        let sizes = self.sizes();
        let uses = [
            reads(Role::Prediction, &buffers.prediction, sizes.prediction),
            reads(Role::Targets, &buffers.targets, sizes.targets),
            reads(Role::Mask, buffers.mask.as_ref(), sizes.mask),
            writes(Role::DPrediction, &buffers.d_prediction, sizes.prediction),
            writes(Role::Loss, &buffers.loss, sizes.loss),
            writes(Role::Workspace, &buffers.workspace, sizes.workspace),
        ];
        Pass::bind(&self.ctx, "tidegate loss", &self.program(buffers.mask.is_some())?, &uses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A software adapter takes one thread a row, so here it runs what GPUs do too.
    #[test]
    fn any_number_of_lanes_gives_the_cross_entropy() {
        let ctx = pollster::block_on(Context::request()).expect("this needs an adapter");
        let (rows, features) = (131, 37);
        let prediction: Vec<f32> = (0..rows * features).map(|i| (i * 7919 % 1013) as f32 / 50.0 - 10.0).collect();
        let targets: Vec<u32> = (0..rows as u32).map(|row| row * 5 % 40).collect();
        let labelled = || (0..rows).filter(|&row| targets[row] < features as u32);
        let count = labelled().count() as f64;
        let mut gradient = vec![0.0; rows * features];
        let mut mean = 0.0;
        for row in labelled() {
            let logits: Vec<f64> = prediction[row * features..][..features].iter().copied().map(f64::from).collect();
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            mean += (sum.ln() - logits[targets[row] as usize]) / count;
            for (c, x) in logits.iter().enumerate() {
                let one = f64::from(u8::from(c == targets[row] as usize));
                gradient[row * features + c] = (x.exp() / sum - one) / count;
            }
        }
        for lanes in [1, 2, 16, 64] {
            let loss = Loss::new(&ctx, Objective::CrossEntropy, LossShape { rows, features }).unwrap();
            let loss = Loss { lanes, ..loss };
            let sizes = loss.sizes();
            let given = [ctx.upload("prediction", &prediction).unwrap(), ctx.upload("targets", &targets).unwrap()];
            let written = [sizes.prediction, sizes.loss, sizes.workspace]
                .map(|size| ctx.upload("poisoned", &vec![u32::MAX; (size / 4) as usize]).unwrap());
            let whole = wgpu::Buffer::as_entire_buffer_binding;
            let buffers = LossBuffers {
                prediction: whole(&given[0]),
                targets: whole(&given[1]),
                mask: None,
                d_prediction: whole(&written[0]),
                loss: whole(&written[1]),
                workspace: whole(&written[2]),
            };
            let mut encoder = ctx.encoder("loss");
            loss.bind(&buffers).unwrap().encode(&mut encoder);
            ctx.submit(encoder).unwrap();
            let [d, found] = pollster::block_on(ctx.download([&written[0], &written[1]])).unwrap();
            assert_eq!(f64::from(found[1]), count, "{lanes} lanes");
            assert!((f64::from(found[0]) - mean).abs() <= 1e-5, "{lanes} lanes: {} for {mean}", found[0]);
            for (i, (d, truth)) in d.iter().zip(&gradient).enumerate() {
                assert!((f64::from(*d) - truth).abs() <= 1e-7, "{lanes} lanes, element {i}: {d} for {truth}");
            }
        }
    }
}
