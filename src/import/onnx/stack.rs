//! Recurrent nodes one behind the other as the layers of one network, so that nothing of them passes through the host.

use std::collections::HashSet;
use std::slice;

use super::call::{Call, Part};
use super::host::{Array, Budget, Data};
use super::node::Node;
use super::progress::{Run, WINDOW, needs};
use super::scope::{Step, Values};
use super::tensor::{Tensor, Tensors, Values as TensorValues};
use crate::error::Result;
use crate::import::Model;
use crate::{Output, ParamLayout, Params, Sequence};

/// Most values of an output that is followed to the next layer: as floats their places are exact.
const MOST: usize = 1 << 24;

/// One node, or several as one network.
pub struct Stack {
    calls: Vec<Call>,
    /// All of them, where they are several.
    fused: Option<Part>,
}

impl Stack {
    pub fn new(calls: Vec<Call>) -> Result<Self> {
        let fused = if calls.len() > 1 { Some(fuse(&calls)?) } else { None };
        Ok(Self { calls, fused })
    }

    pub fn parts(&self) -> &[Part] {
        self.fused.as_ref().map_or(self.calls[0].parts(), slice::from_ref)
    }

    pub fn sequence<'a>(&'a self, part: &'a Part) -> Sequence<'a> {
        self.calls[0].sequence(part)
    }

    /// Outputs of all its nodes, without the `Y` of those that are not the last.
    pub fn outputs(&self, parts: &[Output]) -> Result<Tensors> {
        let (Some(fused), [output]) = (&self.fused, parts) else { return self.calls[0].outputs(parts) };
        let (layers, states) = (self.calls.len(), fused.model.cell.spec().states.len());
        let len = output.final_state.len() / (layers * states);
        let mut tensors = Tensors::new();
        for (layer, call) in self.calls.iter().enumerate() {
            let is_last = layer + 1 == layers;
            let state = |s: usize| &output.final_state[(s * layers + layer) * len..][..len];
            let final_state = (0..states).flat_map(state).copied().collect();
            let y = if is_last { output.output.clone() } else { vec![0.0; output.output.len()] };
            let mut made = call.outputs(&[Output { output: y, final_state }])?;
            if let (false, Some(name)) = (is_last, call.y_name()) {
                made.remove(name);
            }
            tensors.extend(made);
        }
        Ok(tensors)
    }
}

/// One network of as many layers as there are calls, each of one part.
fn fuse(calls: &[Call]) -> Result<Part> {
    let first = &calls[0].parts()[0].model;
    let config = first.config.clone().with_num_layers(calls.len());
    let values = calls.iter().flat_map(|call| call.parts()[0].model.params.values()).copied().collect();
    let params = Params::from_values(&ParamLayout::new(&first.cell, &config)?, values)?;
    let len = calls[0].shape().batch_size * first.config.output_size();
    let states: Vec<Option<&[f32]>> = calls.iter().map(|call| call.parts()[0].initial_state.as_deref()).collect();
    let initial_state = states.iter().any(Option::is_some).then(|| {
        let block = |s: usize| states.iter().map(move |state| state.map(|state| &state[s * len..][..len]));
        let blocks = (0..first.cell.spec().states.len()).flat_map(block);
        blocks.flat_map(|block| block.map_or(vec![0.0; len], <[f32]>::to_vec)).collect()
    });
    Ok(Part { model: Model { cell: first.cell.clone(), config, params, prefix: String::new() }, initial_state })
}

/// Whether the second may be a layer on top of the first.
fn go_together(below: &Call, above: &Call) -> bool {
    let ([a], [b]) = (below.parts(), above.parts()) else { return false };
    let (a, b) = (&a.model, &b.model);
    let names = |model: &Model| model.params.layout().iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
    below.attributes() == above.attributes()
        && below.shape() == above.shape()
        && below.lengths() == above.lengths()
        && a.config.hidden_size == b.config.hidden_size
        && a.config.output_size() == b.config.input_size
        && a.config.bias == b.config.bias
        && names(a) == names(b)
}

/// The next layer on top of a node: its place among the steps to come, the steps in between, and what of theirs stays.
pub struct Next<'a> {
    pub call: Call,
    pub at: usize,
    pub between: Vec<usize>,
    pub made: Values<'a>,
}

/// Follows the places of all values of `Y` through the host's nodes. If they arrive at the `X` of one recurrent node as the next
/// layer of a network would have them, and nowhere else, that is the next layer.
pub fn next<'a>(run: &Run<'a>, step: &Step<'a>, call: &Call) -> Option<Next<'a>> {
    let y = step.node.output.first().filter(|name| !name.is_empty())?;
    let shape = call.y_shape();
    let len = shape.iter().product::<usize>();
    if call.parts().len() != 1 || len > MOST {
        return None;
    }
    let budget = Budget::new(0);
    budget.extend(4 * len);
    let places = Array::new(shape.to_vec(), Data::F32((0..len).map(|place| place as f32).collect()), None);
    let mut values = run.values.clone();
    values.insert_one(&run.scope, y, places);
    let mut data = HashSet::from([&**y]);
    let mut between = Vec::new();
    for (at, step) in run.rest.iter().enumerate().take(WINDOW) {
        let inputs = needs(step);
        let touches = inputs.iter().any(|name| data.contains(name));
        let ready = inputs.iter().all(|name| run.is_there(&values, name));
        let Some(node) = Node::new(step.node, &step.scope) else {
            if ready {
                values.insert(step, step.run(&values, &budget).ok()?);
                between.push(at);
                if touches && !matches!(&*step.node.op_type, "Shape" | "Size") {
                    data.extend(step.node.output.iter().map(|name| &**name));
                }
            }
            continue;
        };
        if !touches {
            continue;
        }
        let x = node.input("X").filter(|name| ready && data.contains(name))?;
        if inputs.iter().any(|name| *name != x && data.contains(name)) || !arrive(call, values.made(&run.scope, x)?, &budget) {
            return None;
        }
        let others = run.rest.iter().enumerate().filter(|(k, _)| *k != at && !between.contains(k));
        let mut read = others.flat_map(|(_, step)| needs(step)).chain(run.graph.outputs());
        if read.any(|name| data.contains(name)) {
            return None;
        }
        let above = run.call_of(&values, step).ok().filter(|above| go_together(call, above))?;
        data.iter().for_each(|name| values.remove(&run.scope, name));
        return Some(Next { call: above, at, between, made: values });
    }
    None
}

/// Whether the places of `Y`'s values are those of the output of a layer: rows, and within them directions.
fn arrive(call: &Call, x: &Array, budget: &Budget) -> bool {
    let [rows, columns] = [call.shape().rows(), call.parts()[0].model.config.output_size()];
    if x.shape().len() != 3 || x.len() != rows * columns || x.shape()[2] != columns {
        return false;
    }
    let Ok(Tensor { values: TensorValues::F32(places), .. }) = Tensor::from_array("X", x, budget) else {
        return false;
    };
    let hidden = call.parts()[0].model.config.hidden_size;
    places.chunks_exact(hidden).enumerate().all(|(at, places)| {
        let first = call.y_place(at / (columns / hidden), at % (columns / hidden)) * hidden;
        places.iter().enumerate().all(|(k, &place)| place as usize == first + k)
    })
}
