//! What every schedule knows of one layer: its sizes, what it reads and writes, its phases.

use crate::cell::ShaderCell;
use crate::gpu::context::Context;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::{Binding, StepIndex, sizes};
use crate::gpu::program::{Role, Slot};

sizes! {
    /// What every kernel that walks a sequence knows of one layer.
    LayerSizes {
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
        d_state_at,
        /// Offsets in d_gates.
        d_rh, d_unit,
        /// Forward, the window: its first step, and its length, which input_part holds.
        first, window_len,
        /// Whether steps may be held: 1 where they then repeat the output, 2 where it is 0.
        has_hold,
    }
}

sizes! {
    /// The same for a kernel that makes many steps in one dispatch.
    ChunkSizes: LayerSizes {
        /// Steps of a dispatch, and the step to end before.
        chunk, steps,
        /// Where the state holds what a repair starts from; 0 in all that is none.
        snapshot,
        /// Batch rows of a workgroup.
        group_rows,
    }
}

/// What the recurrence of one layer reads and writes going forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForwardSlots {
    pub params: Slot,
    pub input_part: Slot,
    pub state: Slot,
    /// Where the schedule's own room behind the states begins, in elements.
    pub behind_state: u64,
    pub mask: Slot,
    pub output: Slot,
    pub reserve: Slot,
    pub final_state: Slot,
    /// What workgroups of strategy persistent tell each other, or batched's products multiply.
    pub exchange: Slot,
    /// For strategy persistent alone.
    pub status: Slot,
    /// Whether what `Schedule::prepares` asked for is done.
    pub prepared: bool,
    /// What the call gives, for a schedule that takes it from there: see `Schedule::takes_the_call`. Else `state` and `mask` hold it.
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
    pub d_gates: Slot,
    pub state: Slot,
    /// Where the schedule's own room behind the states begins, in elements.
    pub behind_state: u64,
    pub mask: Slot,
    pub output: Slot,
    pub reserve: Slot,
    pub d_output: Slot,
    pub d_initial_state: Slot,
    /// For strategy persistent alone.
    pub exchange: Slot,
    pub status: Slot,
    /// As in [`ForwardSlots`].
    pub prepared: bool,
}

impl ForwardSlots {
    /// What kernels bind, and how.
    fn pairs(&self) -> [(Binding, Slot); 7] {
        [
            (Binding::new("params", self.params.read_access()).stored(self.params.element), self.params),
            (Binding::write("input_part"), self.input_part),
            (Binding::write("state"), self.state),
            (Binding::write("mask").of_u32(), self.mask),
            (Binding::write("output").stored(self.output.element), self.output),
            (Binding::write("reserve"), self.reserve),
            (Binding::write("final_state"), self.final_state),
        ]
    }

    pub fn bindings(&self) -> [Binding; 7] {
        self.pairs().map(|(binding, _)| binding)
    }

    pub fn slots(&self) -> [Slot; 7] {
        self.pairs().map(|(_, slot)| slot)
    }

    /// Without the state and the mask, but with what the call gives.
    fn call_pairs(&self, call: &CallSlots) -> [(Binding, Slot); 8] {
        let [params, input_part, _, _, output, reserve, final_state] = self.pairs();
        [
            params,
            input_part,
            output,
            reserve,
            final_state,
            (Binding::read("lengths").of_u32(), call.lengths),
            (Binding::read("reset").of_u32(), call.reset),
            (Binding::read("initial_state"), call.initial_state),
        ]
    }

    pub fn call_slots(&self, call: &CallSlots) -> [Slot; 8] {
        self.call_pairs(call).map(|(_, slot)| slot)
    }

    /// No buffers, for sources without a device.
    fn none([params, output]: [Element; 2]) -> Self {
        let stored = |element| Slot { element, ..Slot::EMPTY };
        Self {
            params: stored(params),
            input_part: Slot::EMPTY,
            state: Slot::EMPTY,
            behind_state: 0,
            mask: Slot::EMPTY,
            output: stored(output),
            reserve: Slot::EMPTY,
            final_state: Slot::EMPTY,
            exchange: Slot::EMPTY,
            status: Slot::EMPTY,
            prepared: false,
            call: None,
        }
    }
}

impl BackwardSlots {
    /// What kernels bind, and how.
    fn pairs(&self) -> [(Binding, Slot); 8] {
        [
            (Binding::new("params", self.params.read_access()).stored(self.params.element), self.params),
            (Binding::write("d_gates"), self.d_gates),
            (Binding::write("state"), self.state),
            (Binding::write("mask").of_u32(), self.mask),
            (Binding::read("output").stored(self.output.element), self.output),
            (Binding::read("reserve"), self.reserve),
            (Binding::new("d_output", self.d_output.read_access()).stored(self.d_output.element), self.d_output),
            (Binding::write("d_initial_state"), self.d_initial_state),
        ]
    }

    pub fn bindings(&self) -> [Binding; 8] {
        self.pairs().map(|(binding, _)| binding)
    }

    pub fn slots(&self) -> [Slot; 8] {
        self.pairs().map(|(_, slot)| slot)
    }
}

/// Those of [`ForwardSlots::bindings`], for parameters and outputs stored like this.
pub(super) fn forward_bindings(stored: [Element; 2]) -> [Binding; 7] {
    ForwardSlots::none(stored).bindings()
}

/// Those for [`ForwardSlots::call_slots`].
pub(crate) fn call_bindings(stored: [Element; 2]) -> [Binding; 8] {
    let call = CallSlots { lengths: Slot::EMPTY, reset: Slot::EMPTY, initial_state: Slot::EMPTY };
    ForwardSlots::none(stored).call_pairs(&call).map(|(binding, _)| binding)
}

/// Those of [`BackwardSlots::bindings`]. `d_output` is the app's, or for a layer below the last a part of the workspace.
pub(super) fn backward_bindings([params, output, d_output]: [Element; 3], d_output_access: Access) -> [Binding; 8] {
    let stored = |role, element| Slot { role, element, ..Slot::EMPTY };
    let role = if d_output_access == Access::Read { Role::DOutput } else { Role::Workspace };
    let slots = BackwardSlots {
        params: stored(Role::Params, params),
        d_gates: Slot::EMPTY,
        state: Slot::EMPTY,
        behind_state: 0,
        mask: Slot::EMPTY,
        output: stored(Role::Output, output),
        reserve: Slot::EMPTY,
        d_output: stored(role, d_output),
        d_initial_state: Slot::EMPTY,
        exchange: Slot::EMPTY,
        status: Slot::EMPTY,
        prepared: false,
    };
    slots.bindings()
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
