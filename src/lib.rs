#![doc = include_str!("../README.md")]
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
#[cfg(any(feature = "tools", not(target_arch = "wasm32")))]
mod timing;
pub mod train;
mod tune;

pub use cell::{Activation, BinaryGate, Cell, Elman, Gru, GruReset, Lstm, Nonlinearity, wgsl_f32};
pub use error::{Error, Limit, Result};
pub use gpu::context::Context;
pub use gpu::dtype::Dtype;
pub use network::config::{Direction, RnnConfig};
pub use network::params::{ParamLayout, ParamSpec, Params};
pub use network::sequence::{DropoutKey, Gradients, Mode, Output, OutputGradients, SeqShape, Sequence};
pub use plan::{Backward, BackwardBuffers, BufferSizes, Forward, ForwardBuffers, Plan};
pub use product::Tile;
#[cfg(all(feature = "tools", not(target_arch = "wasm32")))]
#[doc(hidden)]
pub use product::sweep;
pub use rnn::Rnn;
pub use rnn::calls::TrainingRun;
pub use rnn::session::Session;
pub use schedule::Strategy;
pub use tune::tuning::{Tried, Tuning};

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
