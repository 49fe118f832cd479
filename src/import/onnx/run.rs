//! A whole graph: recurrent layers on a device, what exporters put around them on the host.

use super::Graph;
use super::call::Part;
use super::progress::Run;
use super::stack::{self, Stack};
use super::tensor::Tensors;
use crate::error::{Error, Result};
use crate::{Context, Output, Rnn, Sequence};

impl Graph {
    /// What the graph computes, by its outputs' names, from tensors by its inputs' names. Its RNN, LSTM and GRU nodes run on the
    /// device, in float32 and in the order that they need each other, those that are layers of one network as one; Transpose, Squeeze, Unsqueeze, Reshape, Flatten, Slice, Split,
    /// Concat, Gather, Expand, Shape, Size, Identity, Constant, ConstantOfShape, Cast, Dropout, Add, Sub, Mul, Div, Neg, Equal, Where
    /// and DequantizeLinear run on the host. A graph whose outputs need anything else is refused, see
    /// [`unsupported`](Graph::unsupported). Inputs that have a default may be left out.
    pub async fn run(&self, ctx: &Context, given: &Tensors) -> Result<Tensors> {
        let mut run = Run::new(self, given)?;
        while let Some(call) = next_call(&mut run)? {
            let mut outputs = Vec::new();
            for part in call.parts() {
                let rnn = Rnn::new(ctx, part.model.cell.clone(), part.model.config.clone())?;
                let params = rnn.upload(&part.model.params)?;
                outputs.push(rnn.forward(&params, &call.sequence(part)).await?);
            }
            run.resume(call.outputs(&outputs)?);
        }
        run.finish()
    }

    /// [`run`](Graph::run), each network by a function: on some strategy, by the reference, or as else the caller likes.
    pub fn run_with<E: From<Error>>(
        &self,
        given: &Tensors,
        mut forward: impl FnMut(&Part, &Sequence<'_>) -> Result<Output, E>,
    ) -> Result<Tensors, E> {
        let mut run = Run::new(self, given)?;
        while let Some(call) = next_call(&mut run)? {
            let outputs = call.parts().iter().map(|part| forward(part, &call.sequence(part)));
            run.resume(call.outputs(&outputs.collect::<Result<Vec<_>, E>>()?)?);
        }
        Ok(run.finish()?)
    }
}

/// Runs the nodes of the host that can be run, then gives the next recurrent one with those that are layers on top of it.
fn next_call(run: &mut Run<'_>) -> Result<Option<Stack>> {
    run.run_host()?;
    if run.rest.is_empty() {
        return Ok(None);
    }
    let step = run.rest.remove(0);
    let mut calls = vec![run.call_of(&run.values, &step)?];
    run.waiting.push(step);
    while let Some(next) = stack::next(run, &run.waiting[calls.len() - 1], &calls[calls.len() - 1]) {
        run.values = next.made;
        let (mut between, mut rest) = (Vec::new(), Vec::new());
        for (at, step) in std::mem::take(&mut run.rest).into_iter().enumerate() {
            match at {
                _ if at == next.at => run.waiting.push(step),
                _ if next.between.contains(&at) => between.push(step),
                _ => rest.push(step),
            }
        }
        run.rest = rest;
        between.iter().for_each(|step| run.release(step));
        calls.push(next.call);
    }
    Stack::new(calls).map(Some)
}
