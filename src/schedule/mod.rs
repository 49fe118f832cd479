//! Schedules: how a recurrence becomes dispatches. Each is a module behind one trait and a row of one table.

mod batched;
pub(crate) mod choose;
pub(crate) mod interface;
pub(crate) mod layer;
pub(crate) mod network;
pub(crate) mod options;
// Browsers take its errors, and what other schedules share of its layouts.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, unused_imports))]
pub(crate) mod persistent;
mod resident;
pub(crate) mod settings;
pub(crate) mod single_step;
mod stepwise;
pub(crate) mod unrolled;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::cell::ShaderCell;
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::gpu::kernel::{KernelSource, StepIndex};
#[cfg(target_arch = "wasm32")]
use crate::gpu::program::Segment;
use crate::network::sequence::Mode;
use interface::{Layer, Schedule};
use layer::LayerSizes;
use persistent::Forced;

/// How the recurrence is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Strategy {
    /// What a [`Tuning`](crate::Tuning) found fastest. Without one, or for shapes that it does not know: persistent for H above 64 and
    /// B up to 64 on a GPU, natively on Vulkan, whose workgroups [`Context::measure_residency`](crate::Context::measure_residency) has
    /// seen run side by side, unless [`with_auto_persistent`](crate::ScheduleOptions::with_auto_persistent) forbids it; else resident up to
    /// H = 128 (GPU: a GRU's to H = 160; CPU adapter: wherever the weights fit into registers, an LSTM's to H = 336), else batched
    /// from B = 64 (CPU adapter: 4) on, else stepwise. A single step: stepwise.
    #[default]
    Auto,
    /// One fused dispatch per step (two for a cell of two phases). Any size, any device. In inference a single step, T = 1, of few
    /// rows has the input's product in it too, and is one dispatch in all for a small network; of many rows it is products over all
    /// of them, then the cell on each.
    Stepwise,
    /// One product a step over all rows of the batch, by the kernels of bulk products, then the cell on each row: two dispatches a
    /// step (four for a cell of two phases). Any size, any device; best for large B and H.
    Batched,
    /// All steps in one dispatch, one workgroup per slice of the batch. Any size, any device; best for small H or many rows.
    Resident,
    /// All steps in one dispatch, the hidden units spread over workgroups that exchange through memory while they run side by
    /// side. Nothing promises that they do: a run that fails is repaired on the GPU by resident, see `status` in
    /// [`BufferSizes`](crate::BufferSizes). Needs more bindings than WebGPU's default, see
    /// [`Context::wanted_limits`](crate::Context::wanted_limits).
    Persistent,
}

/// Every schedule, under the strategy that asks for it and the name that the command uses.
const TABLE: [(Strategy, &str, &dyn Schedule); 4] = [
    (Strategy::Stepwise, "stepwise", &stepwise::Stepwise),
    (Strategy::Batched, "batched", &batched::Batched),
    (Strategy::Resident, "resident", &resident::Resident),
    #[cfg(not(target_arch = "wasm32"))]
    (Strategy::Persistent, "persistent", &persistent::Persistent),
    #[cfg(target_arch = "wasm32")]
    (Strategy::Persistent, "persistent", &Refused),
];

/// Strategy persistent in browsers, which promise nothing of workgroups: no device can run it there, so its kernels are left out.
#[cfg(target_arch = "wasm32")]
#[derive(Debug)]
struct Refused;

#[cfg(target_arch = "wasm32")]
impl Schedule for Refused {
    fn check_device(&self, ctx: &Context) -> Result<()> {
        persistent::check(ctx)
    }

    fn forward(&self, layer: &Layer<'_>, _: &layer::ForwardSlots) -> Result<Vec<Segment>> {
        persistent::check(layer.ctx).map(|()| Vec::new())
    }

    fn backward(&self, layer: &Layer<'_>, _: &layer::BackwardSlots) -> Result<Vec<Segment>> {
        persistent::check(layer.ctx).map(|()| Vec::new())
    }

    fn sources(&self, _: &ShaderCell, _: StepIndex) -> Vec<KernelSource> {
        Vec::new()
    }

    fn candidates(&self, _: &Layer<'_>, _: Mode) -> Vec<(u32, Forced)> {
        Vec::new()
    }
}

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
pub(crate) fn holds_weights(ctx: &Context, cell: &ShaderCell, sizes: &LayerSizes) -> bool {
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
