//! What the recurrence of a layer asks of a resident workgroup.

use crate::cell::ShaderCell;
use crate::schedule::layer::LayerSizes;

/// What a recurrence asks of the layout, forward or backward.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub hidden: u32,
    pub batch: u32,
    pub directions: u32,
    pub gates: u32,
    pub first: u32,
    pub backward: bool,
}

impl Work {
    pub fn new(cell: &ShaderCell, sizes: &LayerSizes, backward: bool) -> Self {
        let LayerSizes { hidden, batch, directions, .. } = *sizes;
        let (gates, first) = (cell.gates.len() as u32, cell.first_phase_gates as u32);
        Self { hidden, batch, directions, gates, first, backward }
    }

    pub fn two_phases(self) -> bool {
        self.first < self.gates
    }

    /// Sums of one unit and row.
    pub fn accumulators(self) -> u32 {
        if self.backward { 1 } else { self.gates }
    }

    /// What each row exchanges per step in units of H: forward h, by step parity, and mid; backward the gates' gradients.
    pub fn vector(self) -> u32 {
        if self.backward { 2 * self.gates } else { 2 + u32::from(self.two_phases()) }
    }
}
