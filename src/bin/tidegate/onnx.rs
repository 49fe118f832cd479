//! `run` on an ONNX model: tensors under the graph's own names.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tidegate::import::Model;
use tidegate::import::onnx::{Graph, Tensor, Tensors, Values};
use tidegate::{Error, Output, Sequence};

use crate::tensors::to_safetensors;
use crate::{Result, files};

/// The bytes of OUTPUT. `forward` runs each of the networks that the model's node is.
pub fn run(model: &Path, input: &Path, forward: impl Fn(&Model, &Sequence<'_>) -> Result<Output>) -> Result<Vec<u8>> {
    let graph = Graph::from_bytes(&files::read(model)?).map_err(|e| files::at(model, e))?;
    let node = graph.only_node().map_err(|e| files::at(model, e))?;
    let given = read(&files::read(input)?, &graph).map_err(|e| files::at(input, e))?;
    let call = node.call(&given)?;
    let outputs = call.parts().iter().map(|part| forward(&part.model, &call.sequence(part)));
    let mut tensors = call.outputs(&outputs.collect::<Result<Vec<_>>>()?)?;
    tensors.retain(|name, _| graph.outputs().any(|output| output == name));
    let floats = tensors.iter().filter_map(|(name, tensor)| match &tensor.values {
        Values::F32(values) => Some((name.clone(), tensor.shape.clone(), &**values)),
        Values::I32(_) => None,
    });
    to_safetensors(&floats.collect::<Vec<_>>())
}

fn read(bytes: &[u8], graph: &Graph) -> Result<Tensors> {
    let file = SafeTensors::deserialize(bytes).map_err(Error::from)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        if graph.inputs().all(|input| input != name) {
            let known: Vec<&str> = graph.inputs().collect();
            return Err(format!("unused tensor `{name}`; the graph's inputs are {}", known.join(", ")).into());
        }
        let (words, shape) = (view.data().as_chunks::<4>().0.iter(), view.shape());
        let tensor = match view.dtype() {
            Dtype::F32 => Tensor::f32(shape, words.map(|&word| f32::from_le_bytes(word)).collect()),
            Dtype::I32 => Tensor::i32(shape, words.map(|&word| i32::from_le_bytes(word)).collect()),
            other => {
                let (name, actual) = (name.into(), other.to_string());
                return Err(Error::Dtype { name, expected: "F32 or (lengths) I32", actual }.into());
            }
        };
        tensors.insert(name.into(), tensor);
    }
    Ok(tensors)
}
