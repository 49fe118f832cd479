//! What a schedule is to the rest: the trait that each of them implements.

use std::fmt::Debug;

use crate::cell::ShaderCell;
use crate::error::{Error, Limit, Result};
use crate::gpu::context::Context;
use crate::gpu::element::Element;
use crate::gpu::kernel::{KernelSource, StepIndex};
use crate::gpu::program::{Segment, Slot};
use crate::network::sequence::Mode;
use crate::schedule::layer::{BackwardSlots, ForwardSlots, LayerSizes};
use crate::schedule::persistent::Forced;
use crate::schedule::settings::Settings;

/// A way to run the recurrence of a layer, all directions: all steps that its product of the input is there for.
pub(crate) trait Schedule: Debug + Sync {
    /// Refuses a device that cannot run it at all.
    fn check_device(&self, ctx: &Context) -> Result<()> {
        let _ = ctx;
        Ok(())
    }

    /// Refuses a layer that it cannot run on this device, before anything is built.
    fn check(&self, layer: &Layer<'_>, backward: bool) -> Result<()> {
        let _ = backward;
        self.check_device(layer.ctx)
    }

    /// Whether its forward takes lengths, resets and initial states of a call from the caller's buffers, so that no dispatch need
    /// bring them into the workspace: it then makes all steps in one.
    fn takes_the_call(&self, layer: &Layer<'_>) -> bool {
        let _ = layer;
        false
    }

    /// Workspace that it needs beyond every schedule's.
    fn scratch(&self, layer: &Layer<'_>, backward: bool) -> Scratch {
        let _ = (layer, backward);
        Scratch::default()
    }

    /// What the dispatch before the first layer may prepare for this layer, all of whose steps are there: then the slots say that it is.
    fn prepares(&self, layer: &Layer<'_>, backward: bool, room: Room) -> Option<Prepared> {
        let _ = (layer, backward, room);
        None
    }

    fn forward(&self, layer: &Layer<'_>, slots: &ForwardSlots) -> Result<Vec<Segment>>;

    /// Fills `d_gates`.
    fn backward(&self, layer: &Layer<'_>, slots: &BackwardSlots) -> Result<Vec<Segment>>;

    /// Sources that it can ask for, over a sample of the sizes that are baked in, for validation without a device.
    fn sources(&self, cell: &ShaderCell, step: StepIndex) -> Vec<KernelSource>;

    /// Workgroups and numbers of persistent's layout to try it with when a tuning is made; none if it is no candidate.
    fn candidates(&self, layer: &Layer<'_>, mode: Mode) -> Vec<(u32, Forced)> {
        let _ = mode;
        vec![(1, layer.settings.layout)]
    }
}

/// Refuses a dispatch of more workgroups in one dimension than the device takes: rows of the batch are spread over the second.
pub(crate) fn check_groups(limits: &wgpu::Limits, strategy: &str, groups: [u64; 3]) -> Result<()> {
    let (needed, most) = (groups.into_iter().max().unwrap_or(0), u64::from(limits.max_compute_workgroups_per_dimension));
    if needed <= most {
        return Ok(());
    }
    let what = format!("for all rows of the batch in strategy {strategy}; take fewer rows at a time");
    let limit = Limit::Device("max_compute_workgroups_per_dimension", what);
    Err(Error::Limit { limit, needed, actual: most })
}

/// A layer to be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub ctx: &'a Context,
    pub settings: &'a Settings,
    pub cell: &'a ShaderCell,
    pub sizes: &'a LayerSizes,
    /// How its parameters are stored.
    pub element: Element,
}

/// A layer's own room in the workspace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub exchange: Slot,
    /// Where that behind the states begins, in elements.
    pub behind_state: u64,
    /// The backward recurrence makes a step more, for the gradient of the initial states.
    pub d_initial_state: bool,
}

/// What strategy persistent finds prepared: its exchange cleared, the grid of the repair written, and a snapshot of the layer's states.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    pub exchange: Slot,
    /// Of the repair's grid, the second and third.
    pub repair: [u32; 2],
    /// Where the snapshot goes in the state, and the layer's part of each of its blocks.
    pub snapshot: u32,
    pub layer_at: u32,
    pub layer_len: u32,
}

/// Elements of workspace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scratch {
    /// A slot of its own: what workgroups exchange, or the operand of a product.
    pub exchange: u64,
    /// Behind the state, in its slot.
    pub behind_state: u64,
}
