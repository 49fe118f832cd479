//! Training on the GPU: what stands around a recurrent network, and [`Trainer`], which puts it together.
//!
//! Each piece works alone on the app's own buffers, as [`Plan`](crate::Plan) does: ask for its `sizes`, allocate, `bind` once, record
//! the [`Pass`] any number of times.
//!
//! | piece | PyTorch | |
//! |---|---|---|
//! | [`Embedding`] | `nn.Embedding` | its gradient is a scatter-add in a fixed order |
//! | [`Linear`] | `nn.Linear` | |
//! | [`Loss`] | `CrossEntropyLoss`, `MSELoss` | means over the rows that a mask leaves |
//! | [`Clipping`] | `clip_grad_norm_`, `clip_grad_value_` | |
//! | [`Update`] | `SGD`, `Adam`, `AdamW` | one dispatch over the flat parameter block |
//!
//! Nothing uses float atomics and every sum has a fixed order: on one device, driver and strategy the same run gives the same bits.
//! All of it is f32, but for what a network of [`Dtype::F16`](crate::Dtype::F16) reads and writes: see [`Trainer`].

mod buffers;
mod checkpoint;
mod clip;
mod config;
mod embedding;
mod guard;
mod half;
mod layout;
mod linear;
mod loss;
mod optimizer;
mod parts;
mod pass;
mod predict;
mod readout;
pub mod schedule;
mod step;
mod tensors;
mod trainer;

pub use checkpoint::Checkpoint;
pub use clip::{Clip, ClipBuffers, ClipSizes, Clipping};
pub use config::{Batch, Inputs, LossScale, NonFinite, Targets, TrainConfig};
pub use embedding::{Embedding, EmbeddingBackward, EmbeddingForward, EmbeddingShape, EmbeddingSizes};
pub use layout::{Layout, Weights};
pub use linear::{Linear, LinearBackward, LinearForward, LinearShape, LinearSizes};
pub use loss::{IGNORE, Loss, LossBuffers, LossShape, LossSizes, Objective};
pub use optimizer::{Optimizer, Update, UpdateBuffers, UpdateSizes};
pub use pass::Pass;
pub use readout::Readout;
pub use trainer::Trainer;

use crate::gpu::kernel::KernelSource;

/// Every source that this module can ask for, for validation without a device.
pub(crate) fn sources() -> Vec<KernelSource> {
    let pieces = [embedding::sources(), readout::sources(), loss::sources(), clip::sources(), optimizer::sources()];
    [pieces.concat(), guard::sources(), half::sources()].concat()
}
