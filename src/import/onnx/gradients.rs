//! Back through a node: from the gradients of its outputs to those of its inputs, under the graph's names and in ONNX's shapes.

use std::collections::btree_map::Entry;

use super::call::Call;
use super::tensor::{Tensor, Tensors, Values};
use crate::error::{Error, Result, check_len};
use crate::import::Model;
use crate::network::sequence::{Gradients, OutputGradients};

/// What a loss gives back to one of a call's [`parts`](Call::parts).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartGradients {
    /// `[T, B, D·H]` with the model's D, `[B, T, D·H]` if it is batch-first.
    pub d_output: Vec<f32>,
    /// `[S, D, B, H]`, if the loss takes a final state.
    pub d_final_state: Option<Vec<f32>>,
}

impl PartGradients {
    /// What [`Rnn::backward`](crate::Rnn::backward) takes.
    pub fn as_output_gradients(&self) -> OutputGradients<'_> {
        OutputGradients { d_output: &self.d_output, d_final_state: self.d_final_state.as_deref() }
    }
}

impl Call {
    /// Gradients of a loss in the node's outputs, each under its output's name and in its shape, as its parts take them. An output
    /// that is left out has no part in the loss; one at least must be there.
    pub fn output_gradients(&self, given: &Tensors) -> Result<Vec<PartGradients>> {
        if self.input_name("W_scale").is_some() {
            return Err(Error::Onnx("a DynamicQuantizeLSTM has no gradients: its weights are integers".into()));
        }
        let names = self.output_names();
        if let Some(name) = given.keys().find(|name| names.iter().all(|(_, known)| known != *name)) {
            return Err(Error::UnusedTensor { name: name.clone() });
        }
        if given.is_empty() {
            let known = names.iter().map(|(_, name)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(Error::Onnx(format!("no gradient of an output is given; the node's outputs are {known}")));
        }
        let hidden = self.parts()[0].model.config.hidden_size;
        let state_shape = self.attributes().state_shape(self.shape().batch_size, hidden);
        let values = |role: &str, shape: &[usize]| -> Result<Option<&[f32]>> {
            let name = names.iter().find(|(known, _)| *known == role).map(|(_, name)| name);
            let Some((name, tensor)) = name.and_then(|name| Some((name, given.get(name)?))) else { return Ok(None) };
            tensor.check_len(name)?;
            tensor.check_shape(name, shape)?;
            Ok(Some(tensor.floats(name)?))
        };
        let d_y = values("Y", &self.y_shape())?;
        let d_states = [values("Y_h", &state_shape)?, values("Y_c", &state_shape)?];
        let mut first = 0;
        let parts = self.parts().iter().map(|part| {
            let model = &part.model;
            let directions = model.config.num_directions();
            let mut d_output = vec![0.0; self.shape().rows() * model.config.output_size()];
            if let Some(d_y) = d_y {
                for (at, values) in d_output.chunks_exact_mut(hidden).enumerate() {
                    let from = self.y_place(at / directions, first + at % directions);
                    values.copy_from_slice(&d_y[from * hidden..][..hidden]);
                }
            }
            let has_state = d_states.iter().any(Option::is_some);
            let d_final_state = has_state.then(|| self.state_block(model, first, &d_states));
            first += directions;
            PartGradients { d_output, d_final_state }
        });
        Ok(parts.collect())
    }

    /// The gradients of the node's inputs, each under its input's name and in its shape, from those of its parts: of `X`, of `W`, `R`, `B`
    /// and `P` with ONNX's order of gates, and of the initial states, as far as the node has them. A tensor that it takes twice has the
    /// sum.
    pub fn input_gradients(&self, parts: &[Gradients]) -> Result<Tensors> {
        check_len("parts", self.parts().len(), parts.len())?;
        let mut made = Tensors::new();
        let (config, directions) = (&self.parts()[0].model.config, self.attributes().num_directions());
        let (hidden, input_size) = (config.hidden_size, config.input_size);
        let gates = self.attributes().operator.gate_blocks().len();
        let batch_size = self.shape().batch_size;
        let [t, b] = [self.shape().seq_len, batch_size];
        let x_shape = if self.attributes().layout { [b, t, input_size] } else { [t, b, input_size] };
        let state_shape = self.attributes().state_shape(batch_size, hidden);
        let mut d_x = vec![0.0; x_shape.iter().product()];
        let mut weights = Weights::zeros(self, directions);
        let mut states = [(); 2].map(|()| vec![0.0; directions * batch_size * hidden]);
        let mut first = 0;
        for (part, d) in self.parts().iter().zip(parts) {
            let model = &part.model;
            let of_part = model.config.num_directions();
            check_len("d_input", d_x.len(), d.d_input.len())?;
            check_len("d_params", model.params.values().len(), d.d_params.len())?;
            check_len(
                "d_initial_state",
                model.cell.spec().states.len() * of_part * batch_size * hidden,
                d.d_initial_state.len(),
            )?;
            d_x.iter_mut().zip(&d.d_input).for_each(|(sum, d)| *sum += d);
            weights.add(model, first, &d.d_params);
            for (state, block) in states.iter_mut().zip(d.d_initial_state.chunks_exact(of_part * batch_size * hidden)) {
                for (at, values) in block.chunks_exact(hidden).enumerate() {
                    let to = self.state_row(first + at / batch_size, at % batch_size);
                    state[to * hidden..][..hidden].copy_from_slice(values);
                }
            }
            first += of_part;
        }
        let rows = gates * hidden;
        let [d_h, d_c] = states;
        let Weights { w, r, b, p, .. } = weights;
        for (role, shape, values) in [
            ("X", x_shape.to_vec(), d_x),
            ("W", vec![directions, rows, input_size], w),
            ("R", vec![directions, rows, hidden], r),
            ("B", vec![directions, 2 * rows], b),
            ("P", vec![directions, 3 * hidden], p),
            ("initial_h", state_shape.to_vec(), d_h),
            ("initial_c", state_shape.to_vec(), d_c),
        ] {
            if let Some(name) = self.input_name(role) {
                add(&mut made, name, Tensor::f32(shape, values));
            }
        }
        Ok(made)
    }
}

/// Adds a gradient to what is there under its name.
fn add(made: &mut Tensors, name: &str, tensor: Tensor) {
    match made.entry(name.to_string()) {
        Entry::Vacant(entry) => drop(entry.insert(tensor)),
        Entry::Occupied(mut entry) => {
            if let (Values::F32(sums), Values::F32(values)) = (&mut entry.get_mut().values, &tensor.values) {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
    }
}

/// Gradients of the weights in ONNX's layouts.
struct Weights {
    blocks: &'static [usize],
    hidden: usize,
    input_size: usize,
    w: Vec<f32>,
    r: Vec<f32>,
    b: Vec<f32>,
    p: Vec<f32>,
}

impl Weights {
    fn zeros(call: &Call, directions: usize) -> Self {
        let config = &call.parts()[0].model.config;
        let (hidden, input_size) = (config.hidden_size, config.input_size);
        let blocks = call.attributes().operator.gate_blocks();
        let zeros = |columns: usize| vec![0.0; directions * blocks.len() * hidden * columns];
        let (w, r, b) = (zeros(input_size), zeros(hidden), zeros(2));
        Self { blocks, hidden, input_size, w, r, b, p: vec![0.0; directions * 3 * hidden] }
    }

    /// Those of a part whose directions begin at `first`: each has W, R, both biases if there are any, and peepholes, one behind the other.
    fn add(&mut self, model: &Model, first: usize, d_params: &[f32]) {
        let directions = model.config.num_directions();
        for (at, values) in d_params.chunks_exact(d_params.len() / directions).enumerate() {
            let (d, mut rest) = (first + at, values);
            let mut take = |len: usize| {
                let (first, others) = rest.split_at(len);
                rest = others;
                first
            };
            let rows = self.blocks.len() * self.hidden;
            spread(self.blocks, take(rows * self.input_size), [d, 0, 1], &mut self.w);
            spread(self.blocks, take(rows * self.hidden), [d, 0, 1], &mut self.r);
            if model.config.bias {
                spread(self.blocks, take(rows), [d, 0, 2], &mut self.b);
                spread(self.blocks, take(rows), [d, 1, 2], &mut self.b);
            }
            let peepholes = rest;
            self.p[d * 3 * self.hidden..][..peepholes.len()].copy_from_slice(peepholes);
        }
    }
}

/// Puts one of the `parts` of a direction of a tensor where ONNX has it, its gates coming in the cell's order.
fn spread(blocks: &[usize], from: &[f32], [d, part, parts]: [usize; 3], to: &mut [f32]) {
    let block_len = from.len() / blocks.len();
    let first = (d * parts + part) * from.len();
    for (values, block) in from.chunks_exact(block_len).zip(blocks) {
        to[first + block * block_len..][..block_len].copy_from_slice(values);
    }
}
