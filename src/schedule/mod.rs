//! Schedules: how a recurrence becomes dispatches. Each is a module behind one trait and a row of one table.

mod batched;
pub(crate) mod choose;
pub(crate) mod interface;
pub(crate) mod layer;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod persistent;
mod resident;
pub(crate) mod single_step;
mod stepwise;
mod strategy;
pub(crate) mod unrolled;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::cell::ShaderCell;
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::network::sequence::Mode;
use interface::{Layer, Schedule};
use layer::StepSizes;
use persistent::Forced;
pub use strategy::Strategy;

/// Every schedule, under the strategy that asks for it and the name that the command uses.
const TABLE: [(Strategy, &str, &dyn Schedule); 4] = [
    (Strategy::Stepwise, "stepwise", &stepwise::Stepwise),
    (Strategy::Batched, "batched", &batched::Batched),
    (Strategy::Resident, "resident", &resident::Resident),
    (Strategy::Persistent, "persistent", &persistent::Persistent),
];

/// All of them.
pub(crate) const STRATEGIES: [Strategy; TABLE.len()] = {
    let mut all = [Strategy::Auto; TABLE.len()];
    let mut at = 0;
    while at < TABLE.len() {
        all[at] = TABLE[at].0;
        at += 1;
    }
    all
};

impl Strategy {
    /// Those that this adapter can run, for suites that try them all.
    pub fn all(ctx: &Context) -> Vec<Self> {
        let able = TABLE.iter().filter(|(_, _, schedule)| schedule.check_device(ctx).is_ok());
        able.map(|(strategy, ..)| *strategy).collect()
    }

    /// The name that the command uses.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(strategy, ..)| *strategy == self).map_or("auto", |(_, name, _)| name)
    }

    /// The schedule of a strategy that was chosen: `Auto` has none.
    pub(crate) fn schedule(self) -> &'static dyn Schedule {
        TABLE.iter().find(|(strategy, ..)| *strategy == self).map_or(&stepwise::Stepwise, |(_, _, schedule)| *schedule)
    }

    /// What to try when a tuning is made. The first is what the others are checked against.
    pub(crate) fn candidates(layer: &Layer<'_>, mode: Mode) -> Vec<Candidate> {
        let of = |&(strategy, _, schedule): &(Self, &str, &dyn Schedule)| {
            let all = schedule.candidates(layer, mode).into_iter();
            all.map(move |(workgroups, layout)| Candidate { strategy, workgroups, layout })
        };
        TABLE.iter().flat_map(of).collect()
    }
}

/// What a tuning tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub strategy: Strategy,
    /// Workgroups and numbers of strategy persistent's layout.
    pub workgroups: u32,
    pub layout: Forced,
}

impl Display for Strategy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let mut known = std::iter::once(Self::Auto).chain(TABLE.map(|(strategy, ..)| strategy));
        known.find(|strategy| strategy.name() == name).ok_or_else(|| Error::UnknownName {
            kind: "strategy",
            name: name.into(),
            known: ["auto"].into_iter().chain(TABLE.map(|(_, name, _)| name)).collect::<Vec<_>>().join(", "),
        })
    }
}

/// Whether strategy resident keeps all weights in registers, forward and backward.
pub(crate) fn holds_weights(ctx: &Context, cell: &ShaderCell, sizes: &StepSizes) -> bool {
    resident::holds_weights(ctx, cell, sizes)
}

/// Whether strategy resident has a kernel for this layer that makes a step faster than a dispatch would.
pub(crate) fn has_fast_resident(layer: &Layer<'_>, backward: bool) -> bool {
    unrolled::AllSteps::new(layer, backward).is_some_and(|kernel| kernel.is_fast())
}

/// Sources that the schedules can ask for, for validation without a device.
pub(crate) fn sources(cell: &ShaderCell) -> Vec<KernelSource> {
    let both = [StepIndex::Immediate, StepIndex::DynamicOffset];
    both.into_iter().flat_map(|step| TABLE.into_iter().flat_map(move |(_, _, schedule)| schedule.sources(cell, step))).collect()
}
