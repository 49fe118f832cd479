//! Tensors of a safetensors file as numbers: types, shapes, and those that stand around a network.

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::file::TensorFile;
use crate::error::{Error, Result};

/// One tensor of a file, widened.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// As the file has it.
    pub name: String,
    /// From the outermost dimension to the innermost.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// All tensors of a file, in the order of their names: for what stands around a network, such as an embedding. F16 and BF16 are
/// widened, other types refused.
pub fn read_tensors(bytes: &[u8]) -> Result<Vec<Tensor>> {
    let file = TensorFile::open(bytes)?;
    let mut tensors = Vec::new();
    for name in file.names() {
        let view = file.find(name)?;
        let mut values = Vec::new();
        widen(name, &view, &mut values)?;
        tensors.push(Tensor { name: name.into(), shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

pub(super) fn check_shape(name: &str, expected: &[usize], tensor: &TensorView<'_>) -> Result<()> {
    if tensor.shape() != expected {
        return Err(Error::Shape { name: name.into(), expected: expected.into(), actual: tensor.shape().to_vec() });
    }
    Ok(())
}

/// The values of a tensor of such a file: F16 and BF16 are widened, other types refused under that name.
pub fn values_of(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    widen(name, tensor, &mut values)?;
    Ok(values)
}

/// Appends a tensor's values as f32. Files are little-endian and need not be aligned.
pub(super) fn widen(name: &str, tensor: &TensorView<'_>, values: &mut Vec<f32>) -> Result<()> {
    let (words, _) = tensor.data().as_chunks::<2>();
    match tensor.dtype() {
        Dtype::F32 => values.extend(tensor.data().as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word))),
        Dtype::F16 => values.extend(words.iter().map(|&word| f16::from_le_bytes(word).to_f32())),
        Dtype::BF16 => values.extend(words.iter().map(|&word| bf16::from_le_bytes(word).to_f32())),
        other => return Err(Error::Dtype { name: name.into(), expected: "F32, F16 or BF16", actual: other.to_string() }),
    }
    Ok(())
}

/// Rows and columns.
pub(super) fn matrix(file: &TensorFile<'_>, name: &str) -> Result<(usize, usize)> {
    match *file.find(name)?.shape() {
        [rows, columns] => Ok((rows, columns)),
        ref shape => Err(Error::Config(format!("`{name}`: expected 2 dimensions, got {} ({shape:?})", shape.len()))),
    }
}
