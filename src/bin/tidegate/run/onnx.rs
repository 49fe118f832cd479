//! `run` on an ONNX model: tensors under the graph's own names.

use std::path::Path;

use safetensors::Dtype;
use tidegate::import::onnx::{Graph, Node, Part, Tensor, Tensors, Values};
use tidegate::import::{open_safetensors, values_of};
use tidegate::{Error, Output, OutputGradients, Sequence};

use crate::args::files;
use crate::run::tensors::{Results, integers, to_safetensors};
use crate::{Result, complain};

/// Whether the file's name is that of an ONNX model; if so, refuses options that were given and are for others alone.
pub fn is_model(path: &Path, not_onnx: &[(&str, bool)]) -> Result<bool> {
    let is_model = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
    let name = path.to_string_lossy().to_lowercase();
    if [".onnx.data", ".onnx_data"].iter().any(|end| name.ends_with(end)) {
        return Err(files::at(path, "the weights of an ONNX model, which lie outside of it: give the .onnx file beside it"));
    }
    match not_onnx.iter().find(|(_, given)| *given) {
        Some((option, _)) if is_model => Err(format!("{option} is not for ONNX models").into()),
        _ => Ok(is_model),
    }
}

/// The model and the place that files beside it are looked up from.
pub fn open(path: &Path) -> Result<Graph> {
    Graph::open(path).map_err(|e| files::at(path, e))
}

/// What is to run of a model.
pub enum Job<'a> {
    Whole(&'a Graph),
    Alone(Node<'a>),
}

impl<'a> Job<'a> {
    /// All of the graph, or the recurrent node of that name or index.
    pub fn new(graph: &'a Graph, node: Option<&str>) -> Result<Self> {
        if let Some(wanted) = node {
            let node = find(graph, wanted)?;
            say_if_quantized(&node);
            return Ok(Self::Alone(node));
        }
        let unsupported = graph.unsupported();
        if !unsupported.is_empty() {
            return Err(refusal(graph, &unsupported).into());
        }
        graph.nodes().iter().for_each(say_if_quantized);
        Ok(Self::Whole(graph))
    }

    /// The same with gradients, which are those of one node: that one, or the only one of a graph that is nothing else.
    pub fn with_gradients(graph: &'a Graph, node: Option<&str>) -> Result<Self> {
        if let Some(wanted) = node {
            let node = find(graph, wanted)?;
            return match node.is_quantized() {
                true => Err(format!("`{}` has no gradients: its weights are integers", node.name()).into()),
                false => Ok(Self::Alone(node)),
            };
        }
        graph.only_node().map(Self::Alone).map_err(|reason| {
            let nodes = graph.nodes();
            let choose = match nodes.len() {
                0 => String::new(),
                _ => format!("; choose one by --node: {}", listed(&nodes)),
            };
            format!("--backward goes through one recurrent node alone. {reason}{choose}").into()
        })
    }

    /// The tensors of INPUT.
    pub fn read(&self, bytes: &[u8]) -> Result<Tensors> {
        match self {
            Self::Whole(graph) => read(bytes, "the graph's inputs", &graph.inputs().collect::<Vec<_>>()),
            Self::Alone(node) => read_node(node, bytes),
        }
    }

    /// The same with the gradients of the node's outputs, each behind `d_`.
    pub fn read_with_gradients(&self, bytes: &[u8]) -> Result<(Tensors, Tensors)> {
        let node = self.alone()?;
        let open: Vec<&str> = node.open_inputs().into_iter().map(|(_, name)| name).collect();
        let of_loss: Vec<String> = node.outputs().into_iter().map(|(_, name)| format!("d_{name}")).collect();
        if let Some(name) = of_loss.iter().find(|name| open.contains(&name.as_str())) {
            return Err(format!("`{name}` is an input of `{}` and would be the gradient of an output too", node.name()).into());
        }
        let known: Vec<&str> = open.into_iter().chain(of_loss.iter().map(String::as_str)).collect();
        let whose = format!("the inputs of `{}` and the gradients of its outputs", node.name());
        let (d, given): (Tensors, Tensors) =
            read(bytes, &whose, &known)?.into_iter().partition(|(name, _)| of_loss.contains(name));
        if d.is_empty() {
            return Err(format!("missing tensor: --backward needs one at least of {}", of_loss.join(", ")).into());
        }
        Ok((given, d.into_iter().map(|(name, tensor)| (name["d_".len()..].to_string(), tensor)).collect()))
    }

    fn alone(&self) -> Result<&Node<'a>> {
        match self {
            Self::Alone(node) => Ok(node),
            Self::Whole(_) => Err("--backward goes through one recurrent node alone".into()),
        }
    }

    /// The node's outputs, and the gradients of its inputs, each behind `d_`.
    pub fn run_back(
        &self,
        (given, d): &(Tensors, Tensors),
        mut backward: impl FnMut(&Part, &Sequence<'_>, OutputGradients<'_>) -> Result<Results>,
    ) -> Result<Tensors> {
        let call = self.alone()?.call(given)?;
        let d = call.output_gradients(d)?;
        let results = call.parts().iter().zip(&d).map(|(part, d)| backward(part, &call.sequence(part), d.as_output_gradients()));
        let (outputs, gradients): (Vec<_>, Vec<_>) = results.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let gradients: Vec<_> = gradients.into_iter().flatten().collect();
        let mut tensors = call.outputs(&outputs)?;
        for (name, tensor) in call.input_gradients(&gradients)? {
            if tensors.insert(format!("d_{name}"), tensor).is_some() {
                return Err(format!("`d_{name}` is an output of the graph and would be the gradient of `{name}` too").into());
            }
        }
        Ok(tensors)
    }

    pub fn run(&self, given: &Tensors, mut forward: impl FnMut(&Part, &Sequence<'_>) -> Result<Output>) -> Result<Tensors> {
        match self {
            Self::Whole(graph) => graph.run_with(given, forward),
            Self::Alone(node) => {
                let call = node.call(given)?;
                let outputs = call.parts().iter().map(|part| forward(part, &call.sequence(part)));
                Ok(call.outputs(&outputs.collect::<Result<Vec<_>>>()?)?)
            }
        }
    }
}

/// The recurrent node of a name, else of an index.
pub fn find<'a>(graph: &'a Graph, wanted: &str) -> Result<Node<'a>> {
    let named = graph.node(wanted);
    let index = wanted.parse::<usize>().ok().filter(|_| !graph.nodes().iter().any(|node| node.name() == wanted));
    let Some(index) = index else { return Ok(named?) };
    let mut nodes = graph.nodes();
    match index < nodes.len() {
        true => Ok(nodes.swap_remove(index)),
        false => Err(format!("--node {index}: the graph has {} recurrent nodes: {}", nodes.len(), listed(&nodes)).into()),
    }
}

/// Recurrent nodes with their indices.
pub fn listed(nodes: &[Node<'_>]) -> String {
    let nodes = nodes.iter().enumerate().map(|(at, node)| format!("{at}: {} `{}`", node.op_type(), node.name()));
    nodes.collect::<Vec<_>>().join(", ")
}

/// Why a graph does not run as a whole, and how one of its nodes does.
pub fn refusal(graph: &Graph, unsupported: &[String]) -> String {
    const NAMED: usize = 60;
    let all = graph.describe_nodes();
    let shown = |names: &[String]| {
        let more = names.len().saturating_sub(NAMED);
        let shown = names[..names.len() - more].join(", ");
        if more == 0 { shown } else { format!("{shown} and {more} more") }
    };
    let text = format!("not run here: {}; the graph has {} nodes: {}", shown(unsupported), all.len(), shown(&all));
    let nodes = graph.nodes();
    match nodes.first() {
        None => format!("{text}; none of them is an RNN, LSTM or GRU"),
        Some(first) => {
            let alone = if first.name().is_empty() { "0" } else { first.name() };
            let listed = listed(&nodes);
            format!("{text}; a recurrent node runs alone: `run MODEL INPUT --output OUTPUT --node {alone}` (there are {listed})")
        }
    }
}

fn say_if_quantized(node: &Node<'_>) {
    if node.is_quantized() {
        complain(&format!("`{}`: its weights are dequantized; nothing else is quantized, as onnxruntime does", node.name()));
    }
}

/// The bytes of OUTPUT.
pub fn serialize(tensors: &Tensors) -> Result<Vec<u8>> {
    let mut floats = Vec::new();
    for (name, tensor) in tensors {
        match &tensor.values {
            Values::F32(values) => floats.push((name.clone(), tensor.shape.clone(), &**values)),
            _ => return Err(format!("the graph's output `{name}` is of integers; only floats are written").into()),
        }
    }
    to_safetensors(&floats)
}

/// Tensors of INPUT for one node.
pub fn read_node(node: &Node<'_>, bytes: &[u8]) -> Result<Tensors> {
    let open: Vec<&str> = node.open_inputs().into_iter().map(|(_, name)| name).collect();
    read(bytes, &format!("the inputs of `{}`", node.name()), &open)
}

fn read(bytes: &[u8], whose: &str, known: &[&str]) -> Result<Tensors> {
    let file = open_safetensors(bytes)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        if !known.contains(&name) {
            return Err(format!("unused tensor `{name}`; {whose} are {}", known.join(", ")).into());
        }
        let shape = view.shape();
        let tensor = match view.dtype() {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => Tensor::f32(shape, values_of(name, &view)?),
            Dtype::I32 | Dtype::I64 => Tensor::i64(shape, integers(name, &view)?),
            other => {
                let (name, actual) = (name.into(), other.to_string());
                return Err(Error::Dtype { name, expected: "F32, F16, BF16 or (lengths, indices) I32, I64", actual }.into());
            }
        };
        tensors.insert(name.into(), tensor);
    }
    Ok(tensors)
}
