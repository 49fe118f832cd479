//! How the rows of a batch are shared out among resident workgroups, and which of two layouts each has.

use super::bounds::Bounds;
use super::registers::Registers;
use super::reread::Reread;
use super::work::Work;
use crate::schedule::layer::LayerSizes;

/// How a workgroup is laid out; all but its rows goes into the shader as constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResidentLayout {
    Reread(Reread),
    Registers(Registers),
}

impl ResidentLayout {
    pub fn new(budget: Bounds, work: Work) -> Self {
        let Work { batch, directions, .. } = work;
        let mut rows = 1;
        while rows < 8 && batch.div_ceil(2 * rows) * directions >= budget.groups {
            rows *= 2;
        }
        let held = if budget.rows_in_turn {
            Registers::new(budget, work, batch.div_ceil(budget.groups.div_ceil(directions)))
        } else if rows == 1 {
            Registers::new(budget, work, 1)
        } else {
            None
        };
        held.map_or_else(|| Self::Reread(Reread::new(work, rows)), Self::Registers)
    }

    pub fn rows(self) -> u32 {
        match self {
            Self::Reread(layout) => layout.rows,
            Self::Registers(layout) => layout.rows,
        }
    }

    pub fn groups(self, sizes: &LayerSizes) -> [u64; 3] {
        [1, sizes.batch.div_ceil(self.rows()).into(), sizes.directions.into()]
    }

    /// Steps of one dispatch of `flops` per workgroup.
    pub fn chunk(self, budget: Bounds, flops: u64, work: Work) -> u32 {
        let groups = work.batch.div_ceil(self.rows()) * work.directions;
        let hidden = u64::from(work.hidden);
        let step = 2 * u64::from(self.rows()) * u64::from(work.gates) * hidden * hidden;
        let waves = u64::from(groups.div_ceil(budget.groups));
        (flops / (step * waves)).clamp(1, u32::MAX.into()) as u32
    }
}

#[cfg(test)]
mod tests;
