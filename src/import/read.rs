//! Reads a network of any family.

use super::family::name::Family;
use super::family::{layer, recognise};
use super::file::TensorFile;
use super::model::{Model, Reading};
use crate::error::Result;

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
        file.check_prefix(prefix)?;
        let family = reading.family.map_or_else(|| recognise::recognise(&file, prefix), Ok)?;
        match family {
            Family::PyTorch => Self::from_pytorch_file(&file, reading.prefix, reading.cell),
            Family::Keras => Self::from_keras_file(&file, prefix, reading.cell),
            _ => layer::read(&file, family, reading),
        }
    }
}
