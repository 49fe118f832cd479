//! `run` on an ONNX model: tensors under the graph's own names.

use std::path::Path;

use safetensors::Dtype;
use tidegate::import::onnx::{Call, Graph, Tensor, Tensors, Values};
use tidegate::import::{open_safetensors, values_of};
use tidegate::{Error, Output};

use crate::Result;
use crate::args::files;
use crate::run::tensors::{integers, to_safetensors};

/// Whether the file's name is that of an ONNX model; if so, refuses options that were given and are for others alone.
pub fn is_model(path: &Path, not_onnx: &[(&str, bool)]) -> Result<bool> {
    let is_model = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    if path.to_string_lossy().to_lowercase().ends_with(".onnx.data") {
        return Err(files::at(path, "the weights of an ONNX model, which lie outside of it: give the .onnx file beside it"));
    }
    match not_onnx.iter().find(|(_, given)| *given) {
        Some((option, _)) if is_model => Err(format!("{option} is not for ONNX models").into()),
        _ => Ok(is_model),
    }
}

/// A node with its inputs, ready to run.
pub struct Prepared {
    pub call: Call,
    /// Names of the graph's outputs: the node may make others too.
    outputs: Vec<String>,
}

impl Prepared {
    pub fn read(model: &Path, input: &Path) -> Result<Self> {
        let graph = Graph::from_bytes(&files::read(model)?).map_err(|e| files::at(model, e))?;
        let node = graph.only_node().map_err(|e| files::at(model, e))?;
        let given = read(&files::read(input)?, &graph).map_err(|e| files::at(input, e))?;
        Ok(Self { call: node.call(&given)?, outputs: graph.outputs().map(String::from).collect() })
    }

    /// The bytes of OUTPUT, from what the call's parts gave.
    pub fn serialize(&self, parts: &[Output]) -> Result<Vec<u8>> {
        let tensors = self.call.outputs(parts)?;
        let floats = tensors.iter().filter_map(|(name, tensor)| match &tensor.values {
            Values::F32(values) if self.outputs.contains(name) => Some((name.clone(), tensor.shape.clone(), &**values)),
            _ => None,
        });
        to_safetensors(&floats.collect::<Vec<_>>())
    }
}

fn read(bytes: &[u8], graph: &Graph) -> Result<Tensors> {
    let file = open_safetensors(bytes)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        if graph.inputs().all(|input| input != name) {
            let known: Vec<&str> = graph.inputs().collect();
            return Err(format!("unused tensor `{name}`; the graph's inputs are {}", known.join(", ")).into());
        }
        let shape = view.shape();
        let tensor = match view.dtype() {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Tensor::f32(shape, values_of(name, &view)?),
            Dtype::I32 | Dtype::I64 => {
                // What no i32 holds is outside any range too.
                let clamped = integers(name, &view)?.into_iter().map(|n| n.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
                Tensor::i32(shape, clamped.collect())
            }
            other => {
                let (name, actual) = (name.into(), other.to_string());
                return Err(Error::Dtype { name, expected: "F32, F16, BF16 or (lengths) I32, I64", actual }.into());
            }
        };
        tensors.insert(name.into(), tensor);
    }
    Ok(tensors)
}
