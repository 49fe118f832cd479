//! A node on host data: ONNX's shapes and names in, [`Sequence`]s to run, ONNX's shapes and names out.

use super::node::Node;
use super::operator::Attributes;
use super::tensor::{Tensor, Tensors};
use crate::error::{Error, Result, check_len};
use crate::import::Model;
use crate::network::sequence::{Output, SeqShape, Sequence, state_len};

/// What a node is to do on some tensors: run its [`parts`](Call::parts), each a network on its [`sequence`](Call::sequence), by
/// [`Rnn::forward`](crate::Rnn::forward) or by the reference; [`outputs`](Call::outputs) then gives the node's own.
#[derive(Debug, Clone)]
pub struct Call {
    shape: SeqShape,
    input: Vec<f32>,
    lengths: Option<Vec<u32>>,
    parts: Vec<Part>,
    attributes: Attributes,
    /// ONNX's name and the graph's.
    inputs: Vec<(&'static str, String)>,
    outputs: Vec<(&'static str, String)>,
}

/// One network of a node: all of it, or one direction of two that differ in their activations.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Part {
    /// Cell, config and weights.
    pub model: Model,
    /// `[S, D, B, H]` with the model's D, if the node has initial states.
    pub initial_state: Option<Vec<f32>>,
}

impl Node<'_> {
    /// Checks the given tensors against the node and its graph, and those of the graph that take part. Given may be every input
    /// of the node that is not a constant: an input of the graph (then it may be left out if the graph has a default), or what
    /// other nodes of a larger graph make. A tensor that the node has no use for is refused.
    pub fn call(&self, given: &Tensors) -> Result<Call> {
        let attributes = self.attributes()?;
        let taken = self.inputs();
        if let Some(name) = given.keys().find(|name| taken.iter().all(|(_, known)| known != name)) {
            return Err(Error::UnusedTensor { name: name.clone() });
        }
        let models = self.models_with(&attributes, given)?;
        let (hidden, input_size) = (models[0].config.hidden_size, models[0].config.input_size);

        let (x_name, x) = self.required("X", given)?;
        let &[first, second, _] = &*x.shape else {
            let order = if attributes.layout { "[B, T, I]" } else { "[T, B, I]" };
            return Err(Error::Onnx(format!("`{x_name}`: expected 3 dimensions {order}, got shape {:?}", x.shape)));
        };
        x.check_shape(x_name, &[first, second, input_size])?;
        let (seq_len, batch_size) = if attributes.layout { (second, first) } else { (first, second) };
        let shape = SeqShape { seq_len, batch_size };
        shape.validate()?;
        let input = x.floats(x_name)?.to_vec();
        let lengths = self.lengths(shape, given)?;

        let state_shape = attributes.state_shape(batch_size, hidden);
        let mut states = Vec::new();
        for role in ["initial_h", "initial_c"] {
            let Some((name, state)) = self.optional(role, given)? else {
                states.push(None);
                continue;
            };
            state.check_shape(name, &state_shape)?;
            states.push(Some(state.floats(name)?.to_vec()));
        }
        let mut call = Call { shape, input, lengths, parts: Vec::new(), inputs: Vec::new(), outputs: Vec::new(), attributes };
        call.inputs = taken.into_iter().map(|(role, name)| (role, name.to_string())).collect();
        call.outputs = self.outputs().into_iter().map(|(role, name)| (role, name.to_string())).collect();
        let mut first = 0;
        for model in models {
            let initial_state = states.iter().any(Option::is_some).then(|| call.state_block(&model, first, &states));
            first += model.config.num_directions();
            call.parts.push(Part { model, initial_state });
        }
        Ok(call)
    }

    fn lengths(&self, shape: SeqShape, given: &Tensors) -> Result<Option<Vec<u32>>> {
        let Some((name, lengths)) = self.optional("sequence_lens", given)? else { return Ok(None) };
        lengths.check_shape(name, &[shape.batch_size])?;
        let lengths = lengths.integers(name)?;
        let lengths = lengths.iter().enumerate().map(|(b, &length)| match u32::try_from(length) {
            Ok(length) if length as usize <= shape.seq_len => Ok(length),
            _ => Err(Error::Onnx(format!("`{name}[{b}]`: {length} is outside 0..={}", shape.seq_len))),
        });
        Ok(Some(lengths.collect::<Result<_>>()?))
    }
}

impl Call {
    /// T and B.
    pub fn shape(&self) -> SeqShape {
        self.shape
    }

    /// The networks to run: one, or two.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What a part is to run on.
    pub fn sequence<'a>(&'a self, part: &'a Part) -> Sequence<'a> {
        let seq = Sequence::new(self.shape, &self.input);
        Sequence { initial_state: part.initial_state.as_deref(), lengths: self.lengths.as_deref(), ..seq }
    }

    /// The node's outputs that have a name, from those of its parts.
    pub fn outputs(&self, parts: &[Output]) -> Result<Tensors> {
        check_len("parts", self.parts.len(), parts.len())?;
        let SeqShape { seq_len, batch_size } = self.shape;
        let hidden = self.parts[0].model.config.hidden_size;
        let directions = self.attributes.num_directions();
        let state_len = directions * batch_size * hidden;
        let mut y = vec![0.0; seq_len * state_len];
        let mut states = vec![vec![0.0; state_len]; self.parts[0].model.cell.spec().states.len()];
        let mut first = 0;
        for (part, output) in self.parts.iter().zip(parts) {
            let config = &part.model.config;
            check_len("output", self.shape.rows() * config.output_size(), output.output.len())?;
            let expected = state_len_of(&part.model, self.shape);
            check_len("final_state", expected, output.final_state.len())?;
            // Rows of T·B (or B·T), and within them directions.
            for (at, values) in output.output.chunks_exact(hidden).enumerate() {
                let (row, d) = (at / config.num_directions(), first + at % config.num_directions());
                y[self.y_place(row, d) * hidden..][..hidden].copy_from_slice(values);
            }
            for (state, block) in
                states.iter_mut().zip(output.final_state.chunks_exact(config.num_directions() * batch_size * hidden))
            {
                for (at, values) in block.chunks_exact(hidden).enumerate() {
                    let to = self.state_row(first + at / batch_size, at % batch_size);
                    state[to * hidden..][..hidden].copy_from_slice(values);
                }
            }
            first += config.num_directions();
        }
        let state_shape = self.attributes.state_shape(batch_size, hidden);
        let y_shape = self.y_shape();
        let tensor = |role: &str| match role {
            "Y" => Tensor::f32(y_shape, y.clone()),
            "Y_h" => Tensor::f32(state_shape, states[0].clone()),
            _ => Tensor::f32(state_shape, states[1].clone()),
        };
        Ok(self.outputs.iter().map(|(role, name)| (name.clone(), tensor(role))).collect())
    }

    pub(super) fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    pub(super) fn lengths(&self) -> Option<&[u32]> {
        self.lengths.as_deref()
    }

    /// The graph's name of an input, by ONNX's.
    pub(super) fn input_name(&self, role: &str) -> Option<&str> {
        self.inputs.iter().find(|(known, _)| *known == role).map(|(_, name)| &**name)
    }

    /// ONNX's name of each output and the graph's.
    pub(super) fn output_names(&self) -> &[(&'static str, String)] {
        &self.outputs
    }

    /// The graph's name of `Y`.
    pub(super) fn y_name(&self) -> Option<&str> {
        self.outputs.iter().find(|(role, _)| *role == "Y").map(|(_, name)| &**name)
    }

    pub(super) fn y_shape(&self) -> [usize; 4] {
        let SeqShape { seq_len, batch_size } = self.shape;
        let (directions, hidden) = (self.attributes.num_directions(), self.parts[0].model.config.hidden_size);
        if self.attributes.layout { [batch_size, seq_len, directions, hidden] } else { [seq_len, directions, batch_size, hidden] }
    }

    /// Which H values of `Y` are those of a row of the output, T·B (or B·T), in a direction.
    pub(super) fn y_place(&self, row: usize, d: usize) -> usize {
        let (directions, batch_size) = (self.attributes.num_directions(), self.shape.batch_size);
        match self.attributes.layout {
            true => row * directions + d,
            false => (row / batch_size * directions + d) * batch_size + row % batch_size,
        }
    }

    /// `[S, D, B, H]` of the directions from `first` on that a model has, out of the node's `initial_h` and `initial_c`.
    pub(super) fn state_block(&self, model: &Model, first: usize, states: &[Option<impl AsRef<[f32]>>]) -> Vec<f32> {
        let hidden = model.config.hidden_size;
        let mut block = Vec::with_capacity(state_len_of(model, self.shape));
        for state in &states[..model.cell.spec().states.len()] {
            for d in first..first + model.config.num_directions() {
                for b in 0..self.shape.batch_size {
                    match state {
                        Some(state) => block.extend_from_slice(&state.as_ref()[self.state_row(d, b) * hidden..][..hidden]),
                        None => block.resize(block.len() + hidden, 0.0),
                    }
                }
            }
        }
        block
    }

    /// Row of H values in the node's states.
    pub(super) fn state_row(&self, d: usize, b: usize) -> usize {
        if self.attributes.layout { b * self.attributes.num_directions() + d } else { d * self.shape.batch_size + b }
    }
}

fn state_len_of(model: &Model, shape: SeqShape) -> usize {
    state_len(&model.cell.spec(), &model.config, shape)
}
