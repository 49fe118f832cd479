//! What every schedule knows of one layer: its sizes, what it reads and writes, its phases.

use crate::cell::ShaderCell;
use crate::gpu::context::Context;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{Binding, StepIndex, sizes};
use crate::gpu::program::Slot;

sizes! {
    /// What every kernel that walks a sequence knows of one layer.
    StepSizes {
        seq_len, batch, rows,
        /// Row of (t, b) is t·row_t + b·row_b.
        row_t, row_b,
        hidden, directions,
        /// 1 where the only direction is the reverse.
        reverse,
        /// Index of the layer's first direction among the L·D.
        layer,
        /// Elements of one state of all layers: L·D·B·H.
        block,
        has_reset, has_bias, has_reserve, has_final,
        /// Offsets in the parameters, and from one direction to the next.
        weight, bias, unit, param_stride,
        /// Offset of the running gradient in the state.
        carry,
        /// Offsets in d_rows.
        d_rh, d_unit,
        /// Forward, the window: its first step, and its length, which input_part holds.
        first, part_len,
        /// Steps of a dispatch, and the step to end before, where one dispatch makes many.
        chunk, steps,
        /// Where the state holds what a repair starts from, or batched's room; 0 if there is none.
        snapshot,
        /// Workgroups of a team, and its rows; most polls of one wait, and of the roll call.
        members, team_rows, spin_limit, call_limit, has_status,
        /// Of strategy batched, in the state: a step's product, in how many parts, and what backward's multiplies.
        part, splits, sent,
        /// Of a schedule that takes lengths and initial states from the call.
        has_lengths, has_initial,
        /// Whether steps may be held: 1 where they then repeat the output, 2 where it is 0.
        has_hold,
    }
}

/// What the recurrence of one layer reads and writes going forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardSlots {
    pub params: Slot,
    pub input_part: Slot,
    pub state: Slot,
    pub marks: Slot,
    pub output: Slot,
    pub reserve: Slot,
    pub final_state: Slot,
    /// What workgroups of strategy persistent tell each other, or batched's products multiply.
    pub exchange: Slot,
    /// Of strategy persistent alone.
    pub status: Slot,
    /// What the call gives, for a schedule that takes it from there: see `Schedule::takes_the_call`. Else `state` and `marks` hold it.
    pub call: Option<CallSlots>,
}

/// What a call starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallSlots {
    pub lengths: Slot,
    pub reset: Slot,
    pub initial_state: Slot,
}

/// What the recurrence of one layer reads and writes going backward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackwardSlots {
    pub params: Slot,
    pub d_rows: Slot,
    pub state: Slot,
    pub marks: Slot,
    pub output: Slot,
    pub reserve: Slot,
    pub d_output: Slot,
    pub d_initial_state: Slot,
    /// Of strategy persistent alone.
    pub exchange: Slot,
    pub status: Slot,
}

impl ForwardSlots {
    pub fn bindings(&self) -> [Binding; 7] {
        let mut bindings = forward_bindings([self.params, self.output].map(|slot| slot.element));
        bindings[0].access = self.params.read_access();
        bindings
    }

    /// In the order of [`forward_bindings`].
    pub fn slots(&self) -> [Slot; 7] {
        [self.params, self.input_part, self.state, self.marks, self.output, self.reserve, self.final_state]
    }

    /// Without state and marks, but with what the call gives.
    pub fn call_slots(&self, call: &CallSlots) -> [Slot; 8] {
        let CallSlots { lengths, reset, initial_state } = *call;
        [self.params, self.input_part, self.output, self.reserve, self.final_state, lengths, reset, initial_state]
    }
}

impl BackwardSlots {
    pub fn bindings(&self) -> [Binding; 8] {
        let elements = [self.params, self.output, self.d_output].map(|slot| slot.element);
        let mut bindings = backward_bindings(elements, self.d_output.read_access());
        bindings[0].access = self.params.read_access();
        bindings
    }

    /// In the order of [`backward_bindings`].
    pub fn slots(&self) -> [Slot; 8] {
        let Self { params, d_rows, state, marks, output, reserve, d_output, d_initial_state, .. } = *self;
        [params, d_rows, state, marks, output, reserve, d_output, d_initial_state]
    }
}

pub(super) fn forward_bindings([params, output]: [Element; 2]) -> [Binding; 7] {
    [
        Binding::read("params").stored(params),
        Binding::write("input_part"),
        Binding::write("state"),
        Binding::write("marks").of_u32(),
        Binding::write("output").stored(output),
        Binding::write("reserve"),
        Binding::write("final_state"),
    ]
}

/// In the order of [`ForwardSlots::call_slots`].
pub(crate) fn call_bindings([params, output]: [Element; 2]) -> [Binding; 8] {
    [
        Binding::read("params").stored(params),
        Binding::write("input_part"),
        Binding::write("output").stored(output),
        Binding::write("reserve"),
        Binding::write("final_state"),
        Binding::read("lengths").of_u32(),
        Binding::read("reset").of_u32(),
        Binding::read("initial_state"),
    ]
}

/// `d_output` is the app's, or for a layer below the last a part of the workspace.
pub(super) fn backward_bindings([params, output, d_output]: [Element; 3], d_output_access: Access) -> [Binding; 8] {
    [
        Binding::read("params").stored(params),
        Binding::write("d_rows"),
        Binding::write("state"),
        Binding::write("marks").of_u32(),
        Binding::read("output").stored(output),
        Binding::read("reserve"),
        Binding::new("d_output", d_output_access).stored(d_output),
        Binding::write("d_initial_state"),
    ]
}

/// Every [`forward_bindings`] that a network may ask for: what it cannot write as f16 it writes as f32.
pub(super) fn all_forward_bindings() -> impl Iterator<Item = [Binding; 7]> {
    Element::ALL.into_iter().map(|element| forward_bindings([element, element.written()]))
}

/// Every [`backward_bindings`]: `d_output` is stored as the output, or a layer's own, which is f32.
pub(super) fn all_backward_bindings() -> impl Iterator<Item = [Binding; 8]> {
    Element::ALL.into_iter().flat_map(|element| {
        let last = backward_bindings([element; 3], Access::Read);
        [last, backward_bindings([element, element.written(), Element::F32], Access::ReadWrite)]
    })
}

/// A part of a step with a product of its own: the number that the shaders know, and its range of gates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub number: u32,
    pub first: u32,
    pub count: u32,
}

/// Forward order; backward also starts with what its shader calls phase 1, but multiplies the same gates.
pub(super) fn phases(cell: &ShaderCell) -> Vec<Phase> {
    let (gates, first) = (cell.gates.len() as u32, cell.first_phase_gates as u32);
    if first == gates {
        vec![Phase { number: 0, first: 0, count: gates }]
    } else {
        vec![Phase { number: 1, first: 0, count: first }, Phase { number: 2, first, count: gates - first }]
    }
}

pub(super) fn step_index(ctx: &Context) -> StepIndex {
    if ctx.immediates() { StepIndex::Immediate } else { StepIndex::DynamicOffset }
}

/// Elements of state beyond the S blocks and forward's second h: scratch of a cell of two phases.
pub(crate) fn phase_scratch(cell: &ShaderCell, directions: u64, batch: u64, hidden: u64) -> u64 {
    if cell.has_two_phases() { directions * batch * hidden * (1 + cell.first_phase_gates as u64) } else { 0 }
}
