//! Networks and parameters from files of other programs.

mod family;
mod file;
mod foreign;
mod keras;
#[cfg(feature = "onnx")]
pub mod onnx;
mod pytorch;
mod safetensors;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use family::Family;
use file::TensorFile;
pub use keras::masked_steps;
pub use pytorch::{Tensor, read_tensors, values_of};
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

/// What a file does not tell of itself, or tells in two ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading<'a> {
    /// The cell, as [`by_name`](crate::cell::by_name) takes it, where it is not the one that the shapes tell.
    pub cell: Option<&'a str>,
    /// What stands before the names of the one network that is read, such as `encoder.lstm.`; the rest of the file is not looked at.
    /// Without it the file must hold one network and nothing else.
    pub prefix: Option<&'a str>,
    /// Who laid out the tensors; without it names and shapes, or `layout` in the file's metadata, must tell.
    pub family: Option<Family>,
}

impl<'a> Reading<'a> {
    /// Names the cell.
    pub fn with_cell(self, cell: impl Into<Option<&'a str>>) -> Self {
        Self { cell: cell.into(), ..self }
    }

    /// Reads what lies behind the prefix.
    pub fn with_prefix(self, prefix: impl Into<Option<&'a str>>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Names the family.
    pub fn with_family(self, family: impl Into<Option<Family>>) -> Self {
        Self { family: family.into(), ..self }
    }
}

impl Model {
    /// Reads a safetensors file of one network, whoever named its tensors: [`read`](Model::read) with nothing but the cell.
    pub fn from_weights(bytes: &[u8], cell: Option<&str>) -> Result<Self> {
        Self::read(bytes, &Reading::default().with_cell(cell))
    }

    /// Reads one network out of a safetensors file: as [`from_safetensors`](Model::from_safetensors) if it is PyTorch's, as
    /// [`from_keras`](Model::from_keras) if it is Keras', else one layer of one direction as its [`Family`] lays it out.
    ///
    /// A bare `kernel`, `recurrent_kernel` and `bias` of an LSTM may be Keras' or haste's, with gates in another order: the family
    /// must be named, here or as `layout` in the metadata. So must it for the cuDNN layers of Keras 2.
    pub fn read(bytes: &[u8], reading: &Reading<'_>) -> Result<Self> {
        let file = TensorFile::open(bytes)?;
        let prefix = reading.prefix.unwrap_or("");
        let family = reading.family.map_or_else(|| family::recognise(&file, prefix), Ok)?;
        match family {
            Family::PyTorch => Self::from_pytorch_file(&file, reading.prefix, reading.cell),
            Family::Keras => Self::from_keras_file(&file, prefix, reading.cell),
            _ => family::read(&file, family, reading),
        }
    }
}
