//! One recurrent node of a graph: what it reads, and the networks that its weights make.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::call::Tensors;
use super::host::{Array, Budget};
use super::operator::{Attributes, Operator};
use super::proto::{BFLOAT16, FLOAT, FLOAT16, INT32, INT64, NodeProto, ValueInfo, type_name};
use super::scope::{Blocked, Scope, Source};
use super::tensor::{Tensor, dtype};
use super::{describe, quantized};
use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::import::Model;
use crate::network::config::{Direction, RnnConfig};
use crate::network::params::{ParamLayout, Params};

/// An RNN, LSTM or GRU node.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    proto: &'a NodeProto,
    operator: Operator,
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

    /// The network that this node is, its weights being constants of the graph, or made of such by operators that
    /// [`Graph::run`](super::Graph::run) runs too.
    ///
    /// A bidirectional node whose directions differ in their activations is two networks: see [`models`](Node::models).
    pub fn model(&self) -> Result<Model> {
        let mut models = self.models()?;
        match (models.pop(), models.pop()) {
            (Some(model), None) => Ok(model),
            _ => Err(self.error("its directions have different activations, so it is two networks: take `models`")),
        }
    }

    /// As [`model`](Node::model), but two networks of one direction each, forward and reverse, where the directions differ in their
    /// activations. The node's output is theirs side by side.
    pub fn models(&self) -> Result<Vec<Model>> {
        self.models_with(&self.attributes()?, &Tensors::new())
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

    pub(super) fn models_with(&self, attributes: &Attributes, given: &Tensors) -> Result<Vec<Model>> {
        let weights = Weights::read(self, attributes, given)?;
        if attributes.is_uniform() {
            let directions: Vec<usize> = (0..attributes.num_directions()).collect();
            return Ok(vec![weights.model(attributes, attributes.direction, &directions)?]);
        }
        let halves = [(Direction::Forward, 0), (Direction::Reverse, 1)];
        halves.into_iter().map(|(direction, at)| weights.model(attributes, direction, &[at])).collect()
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
            (Blocked::Cycle(_), _) => self.error(&format!("its input `{name}` hangs on itself: the graph has a cycle")),
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

/// The constants of a node.
struct Weights<'g> {
    operator: Operator,
    input_size: usize,
    hidden_size: usize,
    /// `[D, G·H, I]` and `[D, G·H, H]`.
    w: Cow<'g, [f32]>,
    r: Cow<'g, [f32]>,
    /// `[D, 2·G·H]`: of the input, then of h.
    b: Option<Cow<'g, [f32]>>,
    /// `[D, 3·H]`.
    p: Option<Cow<'g, [f32]>>,
}

impl<'g> Weights<'g> {
    fn read(node: &Node<'_>, attributes: &Attributes, given: &'g Tensors) -> Result<Self> {
        let (directions, blocks) = (attributes.num_directions(), attributes.operator.gate_blocks().len());
        let weights = |role: &'static str| match node.operator {
            Operator::QuantizedLstm => quantized::weights(node, role).map(|(name, tensor)| (name, Cow::Owned(tensor))),
            _ => node.required(role, given),
        };
        let ((w_name, w), (r_name, r)) = (weights("W")?, weights("R")?);
        check_matrices(w_name, &w)?;
        check_matrices(r_name, &r)?;
        let (input_size, hidden_size) = (w.shape[2], r.shape[2]);
        if let Some(size) = attributes.hidden_size.filter(|&size| size != hidden_size) {
            let what = format!("attribute `hidden_size` is {size}, but `{r_name}` of shape {:?} has {hidden_size}", r.shape);
            return Err(node.error(&what));
        }
        let Some(rows) = hidden_size.checked_mul(2 * blocks) else {
            return Err(Error::Limit { limit: "rows of `R`".into(), needed: u64::MAX, actual: u32::MAX.into() });
        };
        w.check_shape(w_name, &[directions, rows / 2, input_size])?;
        r.check_shape(r_name, &[directions, rows / 2, hidden_size])?;
        let (b, p) = (node.optional("B", given)?, node.optional("P", given)?);
        let sized = |tensor: Option<(&str, Cow<'g, Tensor>)>, columns: usize| -> Result<_> {
            let Some((name, tensor)) = tensor else { return Ok(None) };
            tensor.check_shape(name, &[directions, columns])?;
            Ok(Some(floats(name, tensor)?))
        };
        Ok(Self {
            operator: attributes.operator,
            input_size,
            hidden_size,
            w: floats(w_name, w)?,
            r: floats(r_name, r)?,
            b: sized(b, rows)?,
            p: sized(p, 3 * hidden_size)?,
        })
    }

    /// The network of some of the node's directions.
    fn model(&self, attributes: &Attributes, direction: Direction, directions: &[usize]) -> Result<Model> {
        let cell = attributes.cell(directions[0], self.p.is_some());
        let config = RnnConfig::new(self.input_size, self.hidden_size)
            .with_direction(direction)
            .with_bias(self.b.is_some())
            .with_batch_first(attributes.layout);
        let mut values = Vec::new();
        for &d in directions {
            self.push_gates(&self.w, d, 0, 1, self.input_size, &mut values);
            self.push_gates(&self.r, d, 0, 1, self.hidden_size, &mut values);
            if let Some(b) = &self.b {
                self.push_gates(b, d, 0, 2, 1, &mut values);
                self.push_gates(b, d, 1, 2, 1, &mut values);
            }
            if let Some(p) = &self.p {
                let len = 3 * self.hidden_size;
                values.extend_from_slice(&p[d * len..][..len]);
            }
        }
        let params = Params::from_values(&ParamLayout::new(&cell as &dyn Cell, &config)?, values)?;
        Ok(Model { cell, config, params, prefix: String::new() })
    }

    /// Appends one of the `parts` `[G·H, columns]` of a direction of a tensor, its gates in the cell's order.
    fn push_gates(&self, from: &[f32], d: usize, part: usize, parts: usize, columns: usize, to: &mut Vec<f32>) {
        let blocks = self.operator.gate_blocks();
        let block_len = self.hidden_size * columns;
        let first = (d * parts + part) * blocks.len() * block_len;
        for block in blocks {
            to.extend_from_slice(&from[first + block * block_len..][..block_len]);
        }
    }
}

fn floats<'g>(name: &str, tensor: Cow<'g, Tensor>) -> Result<Cow<'g, [f32]>> {
    match tensor {
        Cow::Borrowed(tensor) => Ok(Cow::Borrowed(tensor.floats(name)?)),
        Cow::Owned(tensor) => Ok(Cow::Owned(tensor.into_floats(name)?)),
    }
}

fn check_matrices(name: &str, tensor: &Tensor) -> Result<()> {
    match tensor.shape.len() {
        3 if tensor.shape.contains(&0) => Err(Error::Onnx(format!("`{name}`: shape {:?} has a dimension of 0", tensor.shape))),
        3 => Ok(()),
        rank => Err(Error::Onnx(format!("`{name}`: expected 3 dimensions, got {rank} ({:?})", tensor.shape))),
    }
}
