//! One recurrent node of a graph: what it reads and makes, and its constants.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::host::{Array, Budget};
use super::names::describe;
use super::operator::{Attributes, Operator};
use super::proto::{BFLOAT16, FLOAT, FLOAT16, INT32, INT64, NodeProto, ValueInfo, type_name};
use super::scope::{Blocked, Scope, Source};
use super::tensor::{Tensor, Tensors, dtype};
use crate::error::{Error, Result};

/// An RNN, LSTM or GRU node.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    proto: &'a NodeProto,
    pub(super) operator: Operator,
    /// Its graph and those around it: where its inputs may be defined.
    pub(super) scope: Arc<Scope<'a>>,
}

impl<'a> Node<'a> {
    pub(super) fn new(proto: &'a NodeProto, scope: &Arc<Scope<'a>>) -> Option<Self> {
        Some(Self { proto, operator: Operator::of(proto)?, scope: scope.clone() })
    }

    /// Its name, which may be empty.
    pub fn name(&self) -> &'a str {
        &self.proto.name
    }

    /// `RNN`, `LSTM`, `GRU` or `DynamicQuantizeLSTM`.
    pub fn op_type(&self) -> &'a str {
        &self.proto.op_type
    }

    /// The inputs that it has: ONNX's name of each (`X`, `W`, `R`, `B`, `sequence_lens`, `initial_h`, `initial_c`, `P`), then the
    /// graph's.
    pub fn inputs(&self) -> Vec<(&'static str, &'a str)> {
        present(self.operator.inputs(), &self.proto.input)
    }

    /// The outputs that it has: ONNX's name of each (`Y`, `Y_h`, `Y_c`), then the graph's.
    pub fn outputs(&self) -> Vec<(&'static str, &'a str)> {
        present(self.operator.outputs(), &self.proto.output)
    }

    pub(super) fn attributes(&self) -> Result<Attributes> {
        self.check_names()?;
        Attributes::read(self.operator, self.proto, self.scope.setting.opset)
    }

    /// Refuses more inputs and outputs than the operator has, and names that contradict each other.
    pub(super) fn check_names(&self) -> Result<()> {
        for (what, expected, actual) in [
            ("inputs", self.operator.inputs().len(), self.proto.input.len()),
            ("outputs", self.operator.outputs().len(), self.proto.output.len()),
        ] {
            if actual > expected {
                return Err(self.error(&format!("has {actual} {what}, expected at most {expected}")));
            }
        }
        let mut made = BTreeSet::new();
        if let Some((_, name)) = self.outputs().into_iter().find(|(_, name)| !made.insert(*name)) {
            return Err(self.error(&format!("two of its outputs are named `{name}`")));
        }
        match self.inputs().into_iter().find(|(_, name)| made.contains(name)) {
            Some((_, name)) => Err(self.error(&format!("its input `{name}` is its own output: the graph has a cycle"))),
            None => Ok(()),
        }
    }

    /// The graph's name of an input, by ONNX's.
    pub(super) fn input(&self, role: &str) -> Option<&'a str> {
        self.inputs().into_iter().find(|(known, _)| *known == role).map(|(_, name)| name)
    }

    /// An input that the node must have.
    pub(super) fn required<'g>(&self, role: &str, given: &'g Tensors) -> Result<(&'a str, Cow<'g, Tensor>)> {
        self.optional(role, given)?.ok_or_else(|| self.error(&format!("has no input `{role}`")))
    }

    /// An input, if the node has it: what the caller gave, else a constant of the graph.
    pub(super) fn optional<'g>(&self, role: &str, given: &'g Tensors) -> Result<Option<(&'a str, Cow<'g, Tensor>)>> {
        let Some(name) = self.input(role) else { return Ok(None) };
        let source = self.scope.find(name).map(|(_, source)| source);
        let tensor = match (source, given.get(name)) {
            (Some(Source::Constant(_)), Some(_)) => return Err(is_constant(name)),
            (Some(Source::Node(_)), Some(_)) if self.scope.order_of_constant(name).is_ok() => return Err(is_constant(name)),
            (source, Some(tensor)) => {
                tensor.check_len(name)?;
                if let Some(Source::Input(value, _)) = source {
                    check_declared(name, value, tensor)?;
                }
                Cow::Borrowed(tensor)
            }
            (source, None) => {
                let array = self.constant(name)?;
                let tensor = Tensor::from_array(name, &array, &Budget::new(self.scope.setting.bytes));
                let tensor = tensor.map_err(|error| match error {
                    Error::Onnx(what) => self.error(&format!("its input `{name}`: {what}")),
                    other => other,
                })?;
                if let Some(Source::Input(value, _)) = source {
                    check_declared(name, value, &tensor)?;
                }
                Cow::Owned(tensor)
            }
        };
        Ok(Some((name, tensor)))
    }

    /// The value of a tensor that is a constant of the graph or is made of such.
    pub(super) fn constant(&self, name: &'a str) -> Result<Array> {
        let blocked = match self.scope.constant(name)? {
            Ok(array) => return Ok(array),
            Err(blocked) => blocked,
        };
        let maker = match self.scope.find(name) {
            Some((_, Source::Node(node))) => Some(node),
            _ => None,
        };
        Err(match (blocked, maker) {
            (Blocked::Input(input), None) => Error::MissingTensor { name: input.into() },
            (Blocked::Node(node), Some(maker)) if std::ptr::eq(node, maker) => {
                self.error(&format!("its input `{name}` is made by {}, not a constant", describe(node)))
            }
            (Blocked::Cycle(_), _) => self.error(&format!("its input `{name}` depends on itself: the graph has a cycle")),
            (blocked, Some(maker)) => {
                let (maker, needed) = (describe(maker), blocked.describe());
                self.error(&format!("its input `{name}` is made by {maker}, not a constant: that needs {needed}"))
            }
            (Blocked::Sparse(_), None) => Error::Onnx(format!("`{name}` is a sparse initializer; only dense ones are read")),
            (_, None) => {
                let what =
                    format!("its input `{name}` is neither an initializer nor an input of the graph, and no node makes it");
                self.error(&what)
            }
        })
    }

    /// The graph's names of the inputs that no constants make: what it is to be given, those with a default included.
    pub fn open_inputs(&self) -> Vec<(&'static str, &'a str)> {
        let mut inputs = self.inputs();
        inputs.retain(|(_, name)| match self.scope.find(name) {
            Some((_, Source::Input(..))) => true,
            _ => self.scope.order_of_constant(name).is_err(),
        });
        inputs
    }

    /// Whether its weights are integers in the file, which are dequantized when they are read. Unlike onnxruntime nothing else is
    /// quantized then.
    pub fn is_quantized(&self) -> bool {
        self.operator == Operator::QuantizedLstm
    }

    pub(super) fn error(&self, what: &str) -> Error {
        Error::Onnx(format!("{}: {what}", describe(self.proto)))
    }
}

/// Those names that are there, with their roles: an empty name means an absent one.
fn present<'a>(roles: &'static [&'static str], names: &'a [String]) -> Vec<(&'static str, &'a str)> {
    let pairs = roles.iter().copied().zip(names.iter().map(String::as_str));
    pairs.filter(|(_, name)| !name.is_empty()).collect()
}

fn is_constant(name: &str) -> Error {
    Error::Onnx(format!("`{name}` is a constant of the graph and not among its inputs"))
}

/// Refuses a tensor that the graph's own declaration of its input contradicts. FLOAT16 and BFLOAT16 inputs are given as floats.
pub(super) fn check_declared(name: &str, value: &ValueInfo, tensor: &Tensor) -> Result<()> {
    let Some(declared) = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else { return Ok(()) };
    match declared.elem_type {
        0 => {}
        FLOAT | FLOAT16 | BFLOAT16 => drop(tensor.floats(name)?),
        INT32 | INT64 => drop(tensor.integers(name)?),
        other => return Err(dtype(name, "FLOAT, FLOAT16, BFLOAT16 or (lengths) INT32 or INT64", &type_name(other))),
    }
    let Some(shape) = &declared.shape else { return Ok(()) };
    // A size that the graph leaves open is the tensor's own.
    let sizes = shape.dim.iter().enumerate().map(|(at, dim)| match dim.dim_value {
        Some(value) => usize::try_from(value).unwrap_or(usize::MAX),
        None => tensor.shape.get(at).copied().unwrap_or(0),
    });
    tensor.check_shape(name, &sizes.collect::<Vec<_>>())
}
