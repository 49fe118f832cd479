//! The networks that the weights of a node make.

use std::borrow::Cow;

use super::node::Node;
use super::operator::{Attributes, Operator};
use super::quantized;
use super::tensor::{Tensor, Tensors};
use crate::cell::Cell;
use crate::error::{Error, Limit, Result};
use crate::import::Model;
use crate::network::config::{Direction, RnnConfig};
use crate::network::params::{ParamLayout, Params};

impl Node<'_> {
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

    pub(super) fn models_with(&self, attributes: &Attributes, given: &Tensors) -> Result<Vec<Model>> {
        let weights = Weights::read(self, attributes, given)?;
        if attributes.is_uniform() {
            let directions: Vec<usize> = (0..attributes.num_directions()).collect();
            return Ok(vec![weights.model(attributes, attributes.direction, &directions)?]);
        }
        let halves = [(Direction::Forward, 0), (Direction::Reverse, 1)];
        halves.into_iter().map(|(direction, at)| weights.model(attributes, direction, &[at])).collect()
    }
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
            return Err(Error::Limit { limit: Limit::Index("rows of `R`".into()), needed: u64::MAX, actual: u32::MAX.into() });
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
