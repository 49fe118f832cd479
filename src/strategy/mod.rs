//! How a recurrence becomes dispatches.

mod stepwise;

use crate::cell::Cell;
use crate::context::Context;
use crate::error::Result;
use crate::kernel::{KernelSource, StepIndex, sizes};
use crate::program::{Segment, Slot};

/// How the recurrence is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// The best that is known to work on the device.
    #[default]
    Auto,
    /// One fused dispatch per step (two for a cell of two phases). Any size, any device.
    Stepwise,
}

impl Strategy {
    /// Those that this adapter can run, for suites that try them all.
    pub fn all(_ctx: &Context) -> Vec<Self> {
        vec![Self::Stepwise]
    }

    /// The name that the command uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stepwise => "stepwise",
        }
    }

    /// What runs when this is asked for.
    pub(crate) fn resolve(self) -> Self {
        match self {
            Self::Auto | Self::Stepwise => Self::Stepwise,
        }
    }
}

sizes! {
    /// What every kernel that walks a sequence knows of one layer.
    StepSizes {
        seq_len, batch, rows,
        /// Row of (t, b) is t·row_t + b·row_b.
        row_t, row_b,
        hidden, directions,
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
}

/// The forward recurrence of one layer, all directions.
pub(crate) fn forward(ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, slots: &ForwardSlots) -> Result<Vec<Segment>> {
    stepwise::forward(ctx, cell, sizes, slots)
}

/// The backward recurrence of one layer, all directions: fills `d_rows`.
pub(crate) fn backward(ctx: &Context, cell: &dyn Cell, sizes: &StepSizes, slots: &BackwardSlots) -> Result<Vec<Segment>> {
    stepwise::backward(ctx, cell, sizes, slots)
}

/// Elements of state beyond the S blocks and forward's second h: scratch of a cell of two phases.
pub(crate) fn phase_scratch(cell: &dyn Cell, directions: u64, batch: u64, hidden: u64) -> u64 {
    let first = cell.first_phase_gates();
    if first == cell.gates().len() { 0 } else { directions * batch * hidden * (1 + first as u64) }
}

/// Every source that the strategies can ask for, for validation without a device.
pub(crate) fn sources(cell: &dyn Cell) -> Vec<KernelSource> {
    [StepIndex::Immediate, StepIndex::DynamicOffset].into_iter().flat_map(|step| stepwise::sources(cell, step)).collect()
}
