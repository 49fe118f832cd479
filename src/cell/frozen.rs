//! A cell whose answers cannot change.

use std::borrow::Cow;
use std::sync::Arc;

use crate::cell::sealed::Token;
use crate::cell::{BackwardStep, Cell, ForwardStep, UnitParam, is_trusted};
use crate::error::Result;

/// Counts and WGSL of a cell, asked for once: buffer sizes and unchecked shaders follow from them, at different times, and a cell
/// that answered differently the second time must not be able to make them disagree.
#[derive(Debug)]
pub(crate) struct Frozen {
    cell: Arc<dyn Cell>,
    gates: Vec<&'static str>,
    states: usize,
    saved: usize,
    first_phase_gates: usize,
    unit_params: Vec<UnitParam>,
    split_gradients: bool,
    trusted: bool,
    wgsl: String,
}

impl Frozen {
    pub fn new(cell: Arc<dyn Cell>) -> Self {
        Self {
            gates: cell.gates().to_vec(),
            states: cell.states(),
            saved: cell.saved(),
            first_phase_gates: cell.first_phase_gates(),
            unit_params: cell.unit_params().to_vec(),
            split_gradients: cell.split_gradients(),
            trusted: is_trusted(&*cell),
            wgsl: cell.wgsl().into_owned(),
            cell,
        }
    }
}

impl Cell for Frozen {
    fn name(&self) -> &str {
        self.cell.name()
    }
    fn gates(&self) -> &[&'static str] {
        &self.gates
    }
    fn states(&self) -> usize {
        self.states
    }
    fn saved(&self) -> usize {
        self.saved
    }
    fn first_phase_gates(&self) -> usize {
        self.first_phase_gates
    }
    fn unit_params(&self) -> &[UnitParam] {
        &self.unit_params
    }
    fn split_gradients(&self) -> bool {
        self.split_gradients
    }
    fn validate(&self) -> Result<()> {
        self.cell.validate()
    }
    fn trusted(&self, _: Token) -> bool {
        self.trusted
    }
    fn wgsl(&self) -> Cow<'_, str> {
        self.wgsl.as_str().into()
    }
    fn forward(&self, step: ForwardStep<'_>) {
        self.cell.forward(step);
    }
    fn surrogate(&self, step: ForwardStep<'_>, frozen: &[f64]) {
        self.cell.surrogate(step, frozen);
    }
    fn margin(&self, saved: &[f64]) -> f64 {
        self.cell.margin(saved)
    }
    fn mid(&self, wx: &[f64], rh: &[f64], prev: &[f64], unit: &[f64]) -> f64 {
        self.cell.mid(wx, rh, prev, unit)
    }
    fn mid_saved(&self, saved: &[f64], prev: &[f64]) -> f64 {
        self.cell.mid_saved(saved, prev)
    }
    fn gate_value(&self, gate: usize, saved: &[f64], next: &[f64]) -> Option<f64> {
        self.cell.gate_value(gate, saved, next)
    }
    fn backward(&self, step: BackwardStep<'_>) {
        self.cell.backward(step);
    }
}
