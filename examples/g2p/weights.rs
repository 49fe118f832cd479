//! The tensors of g2p-en, from the package's own checkpoint or from the fixture made of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Cursor;

use half::f16;
use ndarray::ArrayD;
use ndarray_npy::NpzReader;
use safetensors::{Dtype, SafeTensors};

/// Tensors by the checkpoint's names.
#[derive(Debug, PartialEq)]
pub struct Weights(BTreeMap<String, ArrayD<f32>>);

impl Weights {
    /// Reads `checkpoint20.npz`, or a safetensors file (F16) of the same names: a zip archive starts with `PK`.
    pub fn read(bytes: &[u8]) -> Result<Self, Box<dyn Error>> {
        if bytes.starts_with(b"PK") { Self::from_npz(bytes) } else { Self::from_safetensors(bytes) }
    }

    fn from_npz(bytes: &[u8]) -> Result<Self, Box<dyn Error>> {
        let mut file = NpzReader::new(Cursor::new(bytes))?;
        let names = file.names()?;
        let read = |name: String| match file.by_name(&name) {
            Ok(tensor) => Ok((name, tensor)),
            Err(error) => Err(format!("`{name}`: {error}").into()),
        };
        names.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    fn from_safetensors(bytes: &[u8]) -> Result<Self, Box<dyn Error>> {
        let read = |(name, tensor): (&str, safetensors::tensor::TensorView<'_>)| {
            if tensor.dtype() != Dtype::F16 {
                return Err(format!("`{name}`: expected dtype F16, got {}", tensor.dtype()).into());
            }
            let (words, _) = tensor.data().as_chunks::<2>();
            let values = words.iter().map(|&word| f16::from_le_bytes(word).to_f32()).collect();
            Ok((name.to_string(), ArrayD::from_shape_vec(tensor.shape(), values)?))
        };
        SafeTensors::deserialize(bytes)?.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The values of a tensor, row-major, if it has that shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> tidegate::Result<Vec<f32>> {
        let tensor = self.0.get(name).ok_or_else(|| tidegate::Error::MissingTensor { name: name.into() })?;
        if tensor.shape() != shape {
            let (expected, actual) = (shape.to_vec(), tensor.shape().to_vec());
            return Err(tidegate::Error::Shape { name: name.into(), expected, actual });
        }
        Ok(tensor.iter().copied().collect())
    }
}
