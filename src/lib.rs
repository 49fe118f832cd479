//! Recurrent networks on any GPU: RNNs, LSTMs, GRUs and cells of your own, forward and backward through time, as WGSL compute shaders on
//! [wgpu](https://wgpu.rs) 30 (Vulkan, Metal, DX12, and WebGPU in browsers). Every result is checked against a float64 [`reference`](mod@reference).
//!
//! ```
//! use tidegate::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ctx = pollster::block_on(Context::request())?; // or Context::from_device, with a device, queue and adapter of yours
//! let lstm = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(3, 64))?; // 3 inputs, 64 units
//! let params = lstm.upload(&Params::uniform(lstm.param_layout(), 1))?; // or a file's: import::Model
//! let input = vec![0.5; 20 * 2 * 3]; // [T, B, I]
//! let output = lstm.forward_blocking(&params, &Sequence::new(SeqShape::new(20, 2), &input))?;
//! assert_eq!(output.output.len(), 20 * 2 * 64); // [T, B, H]
//! assert_eq!(lstm.state_of("c", &output.final_state)?.len(), 2 * 64); // [L·D, B, H]
//! # Ok(())
//! # }
//! ```
//!
//! | to | take | guide |
//! |---|---|---|
//! | run host data once | [`Rnn::forward`], [`Rnn::backward`] | |
//! | record into an app's encoder, on its buffers | [`Rnn::plan`], [`Plan::bind_forward`], [`Forward::encode`] | [`guide::embedding`] |
//! | go on with a stream chunk by chunk | [`Rnn::session`], [`Session`] | [`guide::embedding`] |
//! | read PyTorch's, Keras' and ONNX files | [`import::Model`], `import::onnx` | |
//! | train | [`train::Trainer`], or its parts alone | [`guide::training`] |
//! | write a cell | [`Cell`], [`check::check_cell`] | [`guide::cells`] |
//! | make it fast | [`Rnn::tune`], [`Strategy`] | [`guide::strategies`] |
//! | know how exact it is | [`check`], [`reference`](mod@reference) | [`guide::numerics`] |
//!
//! Features: `cli` (the command), `onnx` (`import::onnx`), `ndarray` (arrays in and out), `tools` (what the command measures with).
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    target_arch = "wasm32",
    expect(clippy::arc_with_non_send_sync, reason = "natively the same types go from thread to thread")
)]

#[cfg(feature = "tools")]
pub mod bench;
pub mod cell;
pub mod check;
mod error;
#[cfg(feature = "tools")]
pub mod gates;
mod gpu;
pub mod import;
mod network;
mod plan;
mod product;
pub mod reference;
mod rnn;
mod schedule;
mod timing;
pub mod train;
mod tune;

pub use cell::{Activation, BinaryGate, Cell, Elman, Gru, GruReset, Lstm, Nonlinearity, wgsl_f32};
pub use error::{Error, Limit, Result};
pub use gpu::buffer::DeviceBuffer;
pub use gpu::context::Context;
pub use gpu::dtype::Dtype;
pub use network::config::{Direction, RnnConfig};
pub use network::params::{ParamLayout, ParamSpec, Params};
pub use network::sequence::{DropoutKey, Gradients, Mode, Output, OutputGradients, SeqShape, Sequence};
pub use plan::{
    Backward, BackwardBuffers, BufferSizes, Forward, ForwardBuffers, GradientBuffers, IntoBinding, Plan, PlanBuffers,
};
pub use product::Tile;
#[cfg(all(feature = "tools", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub use product::sweep;
pub use rnn::Rnn;
pub use rnn::calls::TrainingRun;
pub use rnn::session::Session;
pub use schedule::Strategy;
pub use schedule::options::ScheduleOptions;
pub use tune::tuning::{Tried, Tuning};
/// The wgpu that this library was built with: devices, queues, buffers and encoders must be of this version.
pub use wgpu;

/// What most programs name: `use tidegate::prelude::*;`.
pub mod prelude {
    pub use crate::{
        BackwardBuffers, Context, Direction, Dtype, ForwardBuffers, Gru, Lstm, Mode, OutputGradients, Params, Plan, Rnn,
        RnnConfig, SeqShape, Sequence, Session, Strategy,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The guide, as it stands in the repository's folder `docs`.
#[cfg(any(doc, doctest))]
pub mod guide {
    #[doc = include_str!("../docs/embedding.md")]
    pub mod embedding {}
    #[doc = include_str!("../docs/training.md")]
    pub mod training {}
    #[doc = include_str!("../docs/cells.md")]
    pub mod cells {}
    #[doc = include_str!("../docs/strategies.md")]
    pub mod strategies {}
    #[doc = include_str!("../docs/numerics.md")]
    pub mod numerics {}
}
