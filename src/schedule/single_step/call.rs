//! What a single step is of, and what it works on.

use std::ops::Range;

use crate::cell::ShaderCell;
use crate::gpu::context::Context;
use crate::gpu::program::Slot;
use crate::product::Tiles;
use crate::schedule::network::{Dims, Network};

/// A step of a network at a shape, on a call's buffers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepCall<'a> {
    pub ctx: &'a Context,
    pub network: &'a Network,
    pub dims: &'a Dims,
    pub tiles: Tiles,
    pub slots: StepSlots,
    /// Whether the final state goes where the initial one is.
    pub in_place: bool,
}

/// The caller's buffers, absent ones empty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepSlots {
    pub params: Slot,
    pub input: Slot,
    pub initial_state: Slot,
    pub reset: Slot,
    /// The caller's, or where it is until it is packed.
    pub output: Slot,
    pub final_state: Slot,
}

impl StepCall<'_> {
    pub fn has_initial(&self) -> bool {
        self.slots.initial_state != Slot::EMPTY
    }

    pub fn has_final(&self) -> bool {
        self.slots.final_state != Slot::EMPTY
    }

    pub fn has_reset(&self) -> bool {
        self.slots.reset != Slot::EMPTY
    }

    /// What kernels bind as the initial state. One buffer cannot be bound both for reading and for writing: in place, they read it
    /// where they write it.
    pub fn bound_initial(&self) -> Slot {
        self.slots.initial_state.only_if(!self.in_place)
    }
}

/// The phases of a single step, as the kernels number them: 0 is that of a cell of one.
pub(crate) fn phases(cell: &ShaderCell) -> Range<u32> {
    if cell.has_two_phases() { 1..3 } else { 0..1 }
}
