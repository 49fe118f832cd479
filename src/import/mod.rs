//! Networks and parameters from files of other programs.

mod keras;
#[cfg(feature = "onnx")]
pub mod onnx;
mod pytorch;
mod safetensors;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use pytorch::{Tensor, read_tensors};
pub use safetensors::open_safetensors;
pub(crate) use safetensors::safetensors_metadata;

use crate::cell::Cell;
use crate::error::Result;
use crate::network::config::RnnConfig;
use crate::network::params::Params;

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

/// Most dimensions of a tensor in a file: as many as NumPy has, and few enough to print.
const MAX_DIMENSIONS: usize = 64;

/// Counts layers from 0 up to the first gap among those that a file names, so that no name makes a layout longer than the file.
fn count_layers(named: impl Iterator<Item = usize>) -> usize {
    let named: BTreeSet<usize> = named.collect();
    (0..).take_while(|layer| named.contains(layer)).count()
}

impl Model {
    /// Reads a safetensors file of one network, whoever named its tensors: as [`from_keras`](Model::from_keras) where one is a
    /// `recurrent_kernel`, else as [`from_safetensors`](Model::from_safetensors).
    pub fn from_weights(bytes: &[u8], cell: Option<&str>) -> Result<Self> {
        let file = open_safetensors(bytes)?;
        let is_keras = file.names().iter().any(|name| keras::is_recurrent_kernel(name));
        if is_keras { Self::from_keras_file(&file, cell) } else { Self::from_pytorch_file(&file, cell) }
    }
}
