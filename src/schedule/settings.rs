//! What a schedule is told beyond its layer: bounds, tiles, a layout.

use crate::gpu::context::Context;
use crate::product::Tiles;
use crate::schedule::persistent::Forced;

/// Work of one workgroup in one dispatch: about 100 ms on a slow GPU.
const DISPATCH_FLOPS: u64 = 2_200_000_000;
/// Far more than a step needs, far less than a GPU has.
const WINDOW_BYTES: u64 = 256 << 20;
/// Polls of about a microsecond each; a software adapter's are faster, and its threads share the machine with others.
const SPIN_LIMIT: u32 = 1 << 16;
const SOFTWARE_SPIN_LIMIT: u32 = 1 << 22;

/// What every schedule of a plan is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
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
}

impl Settings {
    /// What is right before anything is known of the device.
    pub fn new(ctx: &Context) -> Self {
        Self {
            dispatch_flops: DISPATCH_FLOPS,
            workgroups: 0,
            spin_limit: if ctx.is_software() { SOFTWARE_SPIN_LIMIT } else { SPIN_LIMIT },
            window_bytes: WINDOW_BYTES,
            tiles: Tiles::default(),
            layout: Forced::default(),
        }
    }

    /// With the workgroups that the device is known to run side by side, unless the app said how many.
    pub fn with_known_workgroups(self, ctx: &Context) -> Self {
        let workgroups = if self.workgroups > 0 { self.workgroups } else { ctx.side_by_side() };
        Self { workgroups, ..self }
    }

    /// What the app forces, else what a tuning found.
    pub fn layout_or(self, found: Option<Forced>) -> Forced {
        if self.layout == Forced::default() { found.unwrap_or_default() } else { self.layout }
    }
}
