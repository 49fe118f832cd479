//! [`Trace`]: what the reference computed, step by step.

use super::arrays::gather;
use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::network::config::RnnConfig;
use crate::network::sequence::{Output, SeqShape};

/// What [`forward`](super::forward) gives: the output and, in training, all that [`backward`](super::backward) needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// What the network gives.
    pub output: Output<f64>,
    pub(super) config: RnnConfig,
    pub(super) shape: SeqShape,
    pub(super) states: usize,
    pub(super) saved: usize,
    /// Empty in inference.
    pub(super) layers: Vec<LayerTrace>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerTrace {
    /// `[T, B, I_l]`: what the layer read, after dropout; of the first 0 where nothing was computed.
    pub input: Vec<f64>,
    pub directions: Vec<DirectionTrace>,
}

/// What each step of a direction keeps; 0 past a length and, but for the states, at a held step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DirectionTrace {
    /// `[S, T, B, H]`: states before a step that was computed; 0 where a reset cuts the edge.
    pub prev: Vec<f64>,
    /// `[S, T, B, H]`: states after the step.
    pub next: Vec<f64>,
    /// `[T, B, P]`: the h that entered a step that was computed, where it is projected.
    pub projected: Option<Vec<f64>>,
    /// `[K, T, B, H]`: what the cell saved.
    pub saved: Vec<f64>,
    /// The smallest [`Cell::margin`] of all steps.
    pub margin: f64,
}

impl Trace {
    /// How far the nearest step stayed from a jump of the cell, by [`Cell::margin`]; infinite in inference.
    pub fn margin(&self) -> f64 {
        let directions = self.layers.iter().flat_map(|layer| &layer.directions);
        directions.map(|direction| direction.margin).fold(f64::INFINITY, f64::min)
    }

    /// `[T, B, H]`: what a state of a layer and direction is after each step; 0 past a row's length. Time-major, whatever the
    /// config. State 0 is h, before its projection if it has one, 1 of an LSTM is c. Needs a training forward.
    pub fn state(&self, layer: usize, direction: usize, state: usize) -> Result<&[f64]> {
        check_index("state", state, self.states)?;
        let len = self.shape.rows() * self.config.hidden_size;
        Ok(&self.direction(layer, direction)?.next[state * len..][..len])
    }

    /// `[T, B, H]`: the output of a gate, by its index in [`CellSpec::gates`](crate::cell::CellSpec::gates), at each step; time-major, and without meaning past a row's
    /// length and at a held step. `cell` is that of the forward, which must have been one of training.
    ///
    /// What a cell saved is not always this: where backward needs a gate's pre-activation, that is kept in its place.
    pub fn gate(&self, cell: &dyn Cell, layer: usize, direction: usize, gate: usize) -> Result<Vec<f64>> {
        if self.states != cell.spec().states.len() || self.saved != cell.spec().saved {
            return Err(Error::Config(format!("the trace is of a call with another cell than `{}`", cell.name())));
        }
        check_index("gate", gate, cell.spec().gates.len())?;
        let kept = self.direction(layer, direction)?;
        let stride = self.shape.rows() * self.config.hidden_size;
        let (mut saved, mut next) = (vec![0.0; self.saved], vec![0.0; self.states]);
        let value = |at| {
            gather(&mut saved, &kept.saved, at, stride);
            gather(&mut next, &kept.next, at, stride);
            cell.gate_value(gate, &saved, &next)
        };
        let values: Option<Vec<f64>> = (0..stride).map(value).collect();
        values.ok_or_else(|| Error::Config(format!("cell `{}` does not give the values of its gates", cell.name())))
    }

    fn direction(&self, layer: usize, direction: usize) -> Result<&DirectionTrace> {
        self.check_training()?;
        check_index("layer", layer, self.layers.len())?;
        check_index("direction", direction, self.config.num_directions())?;
        Ok(&self.layers[layer].directions[direction])
    }

    /// An inference forward keeps nothing.
    pub(super) fn check_training(&self) -> Result<()> {
        if self.layers.is_empty() {
            return Err(Error::Config("the trace is of an inference forward, must be of a training forward".into()));
        }
        Ok(())
    }
}

fn check_index(name: &str, index: usize, len: usize) -> Result<()> {
    if index < len {
        return Ok(());
    }
    Err(Error::Range { name: name.into(), value: index as u64, min: 0, max: len as u64 - 1 })
}
