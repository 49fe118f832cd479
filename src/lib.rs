#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    target_arch = "wasm32",
    expect(clippy::arc_with_non_send_sync, reason = "natively the same types go from thread to thread")
)]

mod activation;
pub mod cell;
pub mod check;
mod config;
mod context;
mod dropout;
mod error;
pub mod import;
mod kernel;
mod model;
mod owned;
mod params;
mod plan;
mod product;
mod program;
pub mod reference;
mod rows;
mod scopes;
mod session;
mod storage;
mod strategy;
#[cfg(feature = "tools")]
pub mod tools;
pub mod train;
mod transfer;
#[cfg(test)]
mod trusted;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
mod tuning;

pub use activation::{Activation, Gate, wgsl_f32};
pub use cell::{BinaryGate, Cell, Elman, Gru, GruResetBefore, Lstm};
pub use config::{Direction, DropoutKey, Gradients, Mode, Output, OutputGradients, RnnConfig, SeqShape, Sequence};
pub use context::Context;
pub use error::{Error, Result};
pub use model::{Rnn, TrainingRun};
pub use params::{ParamLayout, ParamSpec, Params};
pub use plan::{Backward, BackwardBuffers, BufferSizes, Forward, ForwardBuffers, Plan};
pub use product::Tile;
#[cfg(all(feature = "tools", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub use product::sweep;
pub use session::Session;
pub use storage::Dtype;
pub use strategy::Strategy;
pub use tuning::Tuning;

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
