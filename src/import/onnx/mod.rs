//! Recurrent layers of ONNX models: every attribute of RNN, LSTM and GRU as of opset 22, from a graph of one node or out of a
//! larger one.
//!
//! ```
//! # fn main() -> tidegate::Result<()> {
//! use tidegate::import::onnx::{Graph, Tensor};
//!
//! let graph = Graph::from_bytes(include_bytes!("../../../tests/fixtures/onnx/node/test_gru_defaults.onnx"))?;
//! let node = &graph.nodes()[0];
//! assert_eq!((node.op_type(), node.inputs()[0]), ("GRU", ("X", "X")));
//! // This graph takes its weights as inputs; where they are constants of the graph, `node.model()` is a network.
//! let inputs = [("X", vec![1, 3, 2]), ("W", vec![1, 15, 2]), ("R", vec![1, 15, 5])];
//! let inputs = inputs.map(|(name, shape)| (name.into(), Tensor::f32(shape.clone(), vec![0.1; shape.iter().product()])));
//! let call = node.call(&inputs.into())?;
//! assert_eq!(call.parts()[0].model.config.hidden_size, 5);
//! # Ok(())
//! # }
//! ```

mod call;
mod external;
mod gradients;
mod host;
mod models;
mod names;
mod node;
mod operator;
mod progress;
mod proto;
mod quantized;
mod run;
mod scope;
mod stack;
mod tensor;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use prost::bytes::Bytes;

pub use call::{Call, Part};
pub use gradients::PartGradients;
pub use node::Node;
pub use tensor::{Tensor, Tensors, Values};

use crate::error::{Error, Result};
use crate::import::foreign;
use external::Files;
use names::{describe, describe_input, is_onnx};
use proto::{AttributeProto, GraphProto, ModelProto};
use scope::{Scope, Setting};

/// Since 7 RNN, LSTM and GRU compute the same; 14 added `layout`, 22 a type. LAST_OPSET is the latest that was looked at.
const FIRST_OPSET: i64 = 7;
const LAST_OPSET: i64 = 28;
/// Versions of the messages: opsets are imported since 3, and 14 is that of opset 28.
const FIRST_IR: i64 = 3;
const LAST_IR: i64 = 14;

/// An ONNX model. Reading one takes about twice its bytes of memory. (A file made of empty messages, 2 bytes each, takes some
/// hundred times its own.)
#[derive(Debug, Clone)]
pub struct Graph {
    graph: GraphProto,
    opset: i64,
    files: Files,
    bytes: usize,
}

impl Graph {
    /// Reads a model and, where it asks for them and when they are needed, data in files of its folder. Nothing outside the folder
    /// is read, nor what a link in it leads to.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::Onnx(format!("cannot be read: {error}")))?;
        Ok(Self { files: Files::beside(path), ..Self::from_bytes(&bytes)? })
    }

    /// Reads the messages; what they mean is checked by whoever asks for it. Data outside the model are refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if let Some(error) = foreign::instead_of_onnx(bytes) {
            return Err(error);
        }
        let model = ModelProto::decode(Bytes::copy_from_slice(bytes)).map_err(|e| Error::Onnx(format!("not a model: {e}")))?;
        let none = if bytes.is_empty() { "the file is empty" } else { "the model has no graph" };
        let graph = model.graph.ok_or_else(|| Error::Onnx(none.into()))?;
        if !(FIRST_IR..=LAST_IR).contains(&model.ir_version) {
            let version = model.ir_version;
            return Err(Error::Onnx(format!("ir_version is {version}; {FIRST_IR} to {LAST_IR} are supported")));
        }
        let mut versions = model.opset_import.iter().filter(|opset| is_onnx(&opset.domain));
        match versions.next().map(|opset| opset.version) {
            Some(opset @ FIRST_OPSET..=LAST_OPSET) => {
                check_names(&graph)?;
                Ok(Self { graph, opset, files: Files::default(), bytes: bytes.len() })
            }
            Some(version) => {
                Err(Error::Onnx(format!("opset {version} is imported; {FIRST_OPSET} to {LAST_OPSET} are supported")))
            }
            None => Err(Error::Onnx("no opset of ai.onnx is imported".into())),
        }
    }

    /// Its recurrent nodes in the order of the file, those of subgraphs (of `If`, `Loop` and so on) where their node stands.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        let mut nodes = Vec::new();
        collect(&self.scope(), &mut nodes);
        nodes
    }

    fn scope(&self) -> Arc<Scope<'_>> {
        Scope::new(&self.graph, None, Setting { opset: self.opset, files: &self.files, bytes: self.bytes })
    }

    /// The recurrent node of that name.
    pub fn node(&self, name: &str) -> Result<Node<'_>> {
        let mut nodes = self.nodes();
        let mut named = nodes.iter().enumerate().filter(|(_, node)| node.name() == name).map(|(at, _)| at);
        match (named.next(), named.next()) {
            (Some(at), None) => Ok(nodes.swap_remove(at)),
            (Some(_), Some(_)) => Err(Error::Onnx(format!("two nodes or more are named `{name}`; take one by its index"))),
            (None, _) => {
                let known = nodes.iter().map(|node| format!("`{}`", node.name())).collect::<Vec<_>>().join(", ");
                Err(Error::UnknownName { kind: "recurrent node", name: name.into(), known })
            }
        }
    }

    /// The node of a graph that is nothing but one recurrent node, of whose tensors none is without use.
    pub fn only_node(&self) -> Result<Node<'_>> {
        let graph = &self.graph;
        let [proto] = &*graph.node else {
            let named: Vec<String> = graph.node.iter().take(4).map(describe).collect();
            let (count, named) = (graph.node.len(), named.join(", "));
            return Err(Error::Onnx(format!("the graph has {count} nodes ({named}), expected one of RNN, LSTM or GRU")));
        };
        let Some(node) = Node::new(proto, &self.scope()) else {
            return Err(Error::Onnx(format!("{} is not supported: expected an RNN, LSTM or GRU of ai.onnx", describe(proto))));
        };
        node.check_names()?;
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().map_or("", |values| &values.name);
            return Err(Error::Onnx(format!("`{name}` is a sparse initializer; only dense ones are read")));
        }
        let taken: BTreeSet<&str> = node.inputs().iter().map(|(_, name)| *name).collect();
        let mut names = graph.initializer.iter().map(|tensor| &*tensor.name).chain(self.inputs());
        if let Some(name) = names.find(|name| !taken.contains(name)) {
            return Err(Error::UnusedTensor { name: name.into() });
        }
        if graph.output.is_empty() {
            return Err(Error::Onnx("the graph has no outputs".into()));
        }
        let made: BTreeSet<&str> = node.outputs().iter().map(|(_, name)| *name).collect();
        if let Some(name) = self.outputs().find(|name| !made.contains(name)) {
            return Err(Error::Onnx(format!("the graph's output `{name}` is not an output of its node")));
        }
        Ok(node)
    }

    /// Names of the graph's inputs, initializers that are listed among them included.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.graph.input.iter().map(|value| &*value.name)
    }

    /// The graph's inputs: name, type and shape of each as the graph declares them.
    pub fn describe_inputs(&self) -> Vec<String> {
        self.graph.input.iter().map(describe_input).collect()
    }

    /// The opset of ai.onnx that the model imports.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Names of the graph's outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.graph.output.iter().map(|value| &*value.name)
    }
}

/// Appends the recurrent nodes of a graph and its subgraphs. Protobuf's limit on nesting bounds the recursion.
fn collect<'a>(scope: &Arc<Scope<'a>>, nodes: &mut Vec<Node<'a>>) {
    for node in &scope.graph.node {
        nodes.extend(Node::new(node, scope));
        for graph in node.attribute.iter().flat_map(AttributeProto::subgraphs) {
            collect(&Scope::new(graph, Some(scope.clone()), scope.setting), nodes);
        }
    }
}

/// Refuses two initializers, or two inputs, of one name in a graph or a subgraph.
fn check_names(graph: &GraphProto) -> Result<()> {
    let initializers: Vec<&str> = graph.initializer.iter().map(|tensor| &*tensor.name).collect();
    let inputs: Vec<&str> = graph.input.iter().map(|value| &*value.name).collect();
    for (kind, names) in [("initializers", initializers), ("inputs", inputs)] {
        let mut seen = BTreeSet::new();
        if let Some(name) = names.into_iter().find(|name| !seen.insert(*name)) {
            return Err(Error::Onnx(format!("two {kind} of a graph are named `{name}`")));
        }
    }
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    attributes.flat_map(AttributeProto::subgraphs).try_for_each(check_names)
}
