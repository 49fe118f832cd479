//! Networks and parameters from files of other programs.

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
    /// Time-major, without dropout: a file of parameters tells neither.
    pub config: RnnConfig,
    /// All its tensors.
    pub params: Params,
    /// What stood before every name in the file: `lstm.`, or nothing.
    pub prefix: String,
}
