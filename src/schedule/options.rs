//! What an app may say of scheduling.

use crate::gpu::context::Context;
use crate::product::Tiles;
use crate::schedule::choose::Choice;
use crate::schedule::persistent::Forced;
use crate::schedule::strategy::Strategy;

/// Work of one workgroup in one dispatch: about 100 ms on a slow GPU.
const DISPATCH_FLOPS: u64 = 2_200_000_000;
/// Far more than a step needs, far less than a GPU has.
const WINDOW_BYTES: u64 = 256 << 20;
/// Polls of about a microsecond each; a software adapter's are faster, and its threads share the machine with others.
const SPIN_LIMIT: u32 = 1 << 16;
const SOFTWARE_SPIN_LIMIT: u32 = 1 << 22;

/// How the recurrences of a network are to be scheduled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScheduleOptions {
    /// `Auto` unless one is forced, or chosen for a plan.
    pub strategy: Strategy,
    /// Most FLOPs of one workgroup in one dispatch.
    pub dispatch_flops: u64,
    /// Workgroups that strategy persistent may count on to run side by side; 0 for what the context knows when a plan is made.
    pub workgroups: u32,
    /// Most polls of one wait of strategy persistent.
    pub spin_limit: u32,
    /// Most bytes of workspace for the input's products of a layer.
    pub window_bytes: u64,
    /// Kernels of matrix products that are not left to their shapes.
    pub tiles: Tiles,
    /// Numbers of strategy persistent's layout that are not the formula's.
    pub layout: Forced,
    /// Whether strategy persistent may be chosen.
    pub persistent: bool,
}

impl ScheduleOptions {
    /// What is right before anything is known of the device.
    pub fn new(ctx: &Context) -> Self {
        let spin_limit = if ctx.is_software() { SOFTWARE_SPIN_LIMIT } else { SPIN_LIMIT };
        Self {
            strategy: Strategy::Auto,
            dispatch_flops: DISPATCH_FLOPS,
            workgroups: 0,
            spin_limit,
            window_bytes: WINDOW_BYTES,
            tiles: Tiles::default(),
            layout: Forced::default(),
            persistent: true,
        }
    }

    /// With what was chosen for a plan.
    pub fn chosen(self, choice: &Choice) -> Self {
        let Choice { strategy, tiles, .. } = *choice;
        let workgroups = choice.workgroups.unwrap_or(self.workgroups);
        Self { strategy, tiles, workgroups, layout: self.layout_or(choice.layout), ..self }
    }

    /// What the app forces, else what a tuning found.
    pub fn layout_or(self, found: Option<Forced>) -> Forced {
        if self.layout == Forced::default() { found.unwrap_or_default() } else { self.layout }
    }
}
