//! The layout of a resident workgroup that reads its weights again at every step: any size.

use super::work::Work;
use crate::gpu::capabilities::WORKGROUP_BYTES;

/// Threads and workgroup memory where weights are read at every step: the same for every H, so one pipeline serves all.
const REREAD_UNITS: u32 = 32;
const REREAD_LANES: u32 = 8;
const REREAD_EXCHANGE: u32 = 2048;

/// A workgroup that reads the weights at every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reread {
    pub units: u32,
    pub lanes: u32,
    pub rows: u32,
    pub shared: bool,
    pub sums: u32,
}

impl Reread {
    pub fn new(work: Work, rows: u32) -> Self {
        let (units, mut lanes) = (REREAD_UNITS, REREAD_LANES);
        while lanes > 1 && (units * lanes * rows * work.accumulators() + REREAD_EXCHANGE) * 4 > WORKGROUP_BYTES {
            lanes /= 2;
        }
        let shared = u64::from(rows * work.vector()) * u64::from(work.hidden) <= REREAD_EXCHANGE.into();
        Self { units, lanes, rows, shared, sums: units * lanes * rows * work.accumulators() }
    }

    pub fn constants(self) -> [(&'static str, u32); 6] {
        [
            ("UNITS", self.units),
            ("LANES", self.lanes),
            ("ROWS", self.rows),
            ("SHARED", self.shared.into()),
            ("EXCHANGE", if self.shared { REREAD_EXCHANGE } else { 1 }),
            ("SUMS", if self.lanes > 1 { self.sums } else { 1 }),
        ]
    }
}
