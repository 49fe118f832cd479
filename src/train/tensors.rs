//! Tensors to and from safetensors files, strictly: no conversion, nothing left over.

use std::collections::{BTreeSet, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};

/// A tensor on its way into a file.
pub(super) struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    pub fn f32(name: String, shape: Vec<usize>, values: &[f32]) -> Self {
        Self { name, dtype: Dtype::F32, shape, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    pub fn u32(name: String, values: &[u32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name, dtype: Dtype::U32, shape: vec![values.len()], bytes }
    }
}

/// The bytes of a file. With at most one entry of metadata they are the same every time.
pub(super) fn write(tensors: &[Tensor], metadata: Option<(&str, String)>) -> Result<Vec<u8>> {
    let mut views = Vec::new();
    for Tensor { name, dtype, shape, bytes } in tensors {
        views.push((name, TensorView::new(*dtype, shape.clone(), bytes)?));
    }
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_string(), value)]));
    Ok(safetensors::serialize(views, metadata)?)
}

/// The words of a tensor of this type and shape.
fn read_words<'a>(file: &SafeTensors<'a>, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [[u8; 4]]> {
    let tensor = file.tensor(name).map_err(|_| Error::MissingTensor { name: name.into() })?;
    if tensor.shape() != shape {
        return Err(Error::Shape { name: name.into(), expected: shape.to_vec(), actual: tensor.shape().to_vec() });
    }
    if tensor.dtype() != dtype {
        let expected = if dtype == Dtype::F32 { "F32" } else { "U32" };
        return Err(Error::Dtype { name: name.into(), expected, actual: tensor.dtype().to_string() });
    }
    Ok(tensor.data().as_chunks().0)
}

/// The tensors of these names and shapes, which, but for `others`, must be all that the file has.
pub(super) fn read_f32(file: &SafeTensors<'_>, wanted: &[(String, Vec<usize>)], others: &[&str]) -> Result<Vec<Vec<f32>>> {
    let known: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).chain(others.iter().copied()).collect();
    let words: Vec<_> = wanted.iter().map(|(name, shape)| read_words(file, name, Dtype::F32, shape)).collect::<Result<_>>()?;
    let unused = file.names().into_iter().filter(|name| !known.contains(name)).min();
    if let Some(name) = unused {
        return Err(Error::UnusedTensor { name: name.into() });
    }
    Ok(words.iter().map(|words| words.iter().map(|&word| f32::from_le_bytes(word)).collect()).collect())
}

/// A list of `N` words.
pub(super) fn read_u32<const N: usize>(file: &SafeTensors<'_>, name: &str) -> Result<[u32; N]> {
    let words = read_words(file, name, Dtype::U32, &[N])?;
    Ok(std::array::from_fn(|i| u32::from_le_bytes(words[i])))
}
