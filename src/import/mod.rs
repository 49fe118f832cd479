//! Networks and parameters from files of other programs.

#[cfg(feature = "onnx")]
pub mod onnx;
mod safetensors;

use std::sync::Arc;

use crate::cell::Cell;
use crate::config::RnnConfig;
use crate::params::Params;

/// A whole network as a file describes it: what [`Rnn::new`](crate::Rnn::new) and [`Rnn::upload`](crate::Rnn::upload) take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Model {
    /// Inferred from the number of gates, unless it was named.
    pub cell: Arc<dyn Cell>,
    /// Without dropout; time-major, but for an ONNX node of layout 1: a file of parameters tells neither.
    pub config: RnnConfig,
    /// All its tensors.
    pub params: Params,
    /// What stood before every name in a safetensors file: `lstm.`, or nothing.
    pub prefix: String,
}
