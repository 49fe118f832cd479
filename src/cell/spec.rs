//! [`CellSpec`]: what a cell is, as data.

use std::borrow::Cow;

use crate::error::{Error, Result};

/// What a cell is, as data. A network asks for it once: buffer sizes and unchecked shaders follow from it, at different times.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CellSpec {
    /// G gates, in the order of the weight rows.
    pub gates: Vec<GateSpec>,
    /// S states carried from step to step. State 0 is h, the one that W_hh multiplies.
    pub states: Vec<StateSpec>,
    /// Floats kept per unit and step for backward, beyond the states themselves, which are kept anyway.
    pub saved: usize,
    /// How many leading gates multiply h. The rest multiply [`Cell::mid`](crate::Cell::mid), a second product within the step.
    pub first_phase_gates: usize,
    /// Tensors with one value per hidden unit and row.
    pub unit_params: Vec<UnitParam>,
    /// Whether h may be projected ([`RnnConfig::proj_size`](crate::RnnConfig::proj_size)): no unit reads its own h but through W_hh, that is,
    /// the cell uses neither `prev[0]` forward nor `prev[0]` or `next[0]` backward, its `d_prev[0]` is 0, and it has one phase.
    pub projectable: bool,
    /// Whether `d_rh` ever differs from `d_wx`; if so both are kept for the weight gradients.
    pub split_gradients: bool,
    /// The cell in a line, for pictures: `h' = (1−z)·n + z·h`. Empty if it does not say.
    pub formula: Cow<'static, str>,
}

/// A gate, or the candidate for a new state: H rows of the weight matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateSpec {
    /// As in the formula.
    pub name: &'static str,
    /// What it is: `forget gate`.
    pub about: &'static str,
    /// What happens where it is shut and open, if its values lie between 0 and 1.
    pub meaning: Option<Meaning>,
}

/// What happens where a gate is shut, and where it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// Under 0.1.
    pub shut: &'static str,
    /// Over 0.9.
    pub open: &'static str,
}

/// A state that is carried from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateSpec {
    /// As in the formula.
    pub name: &'static str,
    /// What it is: `cell state`.
    pub about: &'static str,
}

/// Parameters that a cell has per hidden unit, beyond the weight matrices and biases (peepholes, for one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitParam {
    /// Tensor name without the layer: `weight_peephole` becomes `weight_peephole_l0`, shape `[rows, H]`.
    pub name: &'static str,
    /// Values per hidden unit.
    pub rows: usize,
}

impl CellSpec {
    /// A cell with these gates, in the order of the weight rows, that all multiply h; with one state, h; and with so many floats
    /// `saved` per unit and step for backward.
    pub fn new(gates: &[&'static str], saved: usize) -> Self {
        Self {
            gates: gates.iter().map(|name| GateSpec { name, about: "gate or candidate", meaning: None }).collect(),
            states: vec![StateSpec { name: "h", about: "hidden state" }],
            saved,
            first_phase_gates: gates.len(),
            unit_params: Vec::new(),
            projectable: false,
            split_gradients: false,
            formula: Cow::Borrowed(""),
        }
    }

    /// One more state, carried beside h: what it is called in the formula, and what it is.
    pub fn with_state(mut self, name: &'static str, about: &'static str) -> Self {
        self.states.push(StateSpec { name, about });
        self
    }

    /// Only so many leading gates multiply h; the others multiply [`Cell::mid`](crate::Cell::mid).
    pub fn with_first_phase_gates(self, first_phase_gates: usize) -> Self {
        Self { first_phase_gates, ..self }
    }

    /// A tensor `[rows, H]` with values per unit.
    pub fn with_unit_param(mut self, name: &'static str, rows: usize) -> Self {
        self.unit_params.push(UnitParam { name, rows });
        self
    }

    /// Whether h may be projected.
    pub fn with_projectable(self, projectable: bool) -> Self {
        Self { projectable, ..self }
    }

    /// Whether `d_rh` ever differs from `d_wx`.
    pub fn with_split_gradients(self, split_gradients: bool) -> Self {
        Self { split_gradients, ..self }
    }

    /// The cell in a line.
    pub fn with_formula(self, formula: impl Into<Cow<'static, str>>) -> Self {
        Self { formula: formula.into(), ..self }
    }

    /// What the gate of that name is, and what happens where it is shut (under 0.1) and open (over 0.9).
    pub fn with_gate(self, name: &str, about: &'static str, shut: &'static str, open: &'static str) -> Self {
        self.describe(name, about, Some(Meaning { shut, open }))
    }

    /// The gate of that name is the candidate for a new state.
    pub fn with_candidate(self, name: &str) -> Self {
        self.describe(name, "candidate", None)
    }

    fn describe(mut self, name: &str, about: &'static str, meaning: Option<Meaning>) -> Self {
        for gate in self.gates.iter_mut().filter(|gate| gate.name == name) {
            (gate.about, gate.meaning) = (about, meaning);
        }
        self
    }

    /// Total rows of the per-unit parameters.
    pub(crate) fn unit_rows(&self) -> usize {
        self.unit_params.iter().map(|param| param.rows).sum()
    }

    /// Whether a step takes a second product, with `mid`.
    pub(crate) fn has_two_phases(&self) -> bool {
        self.first_phase_gates < self.gates.len()
    }

    /// Refuses counts that contradict each other.
    pub(crate) fn check(&self, cell: &str) -> Result<()> {
        let (gates, first) = (self.gates.len(), self.first_phase_gates);
        let what = if gates == 0 {
            "it has no gates".into()
        } else if self.states.is_empty() {
            "it has no states, and state 0 is h".into()
        } else if !(1..=gates).contains(&first) {
            format!("first_phase_gates is {first}, must lie in 1..={gates}, its gates")
        } else if self.projectable && first < gates {
            "its h may be projected, but it has two phases".into()
        } else {
            return Ok(());
        };
        Err(Error::Check { cell: cell.into(), what })
    }
}
