//! How recurrences are to be scheduled: what an app may say of it, and what a plan is made with.

use crate::gpu::context::Context;
use crate::schedule::Strategy;
use crate::schedule::choose::Choice;
use crate::schedule::settings::Settings;

/// How the recurrences of a network are scheduled, for [`Rnn::with_schedule`](crate::Rnn::with_schedule). What is not said is left
/// as it is, and by default to the device.
///
/// ```
/// use tidegate::{ScheduleOptions, Strategy};
///
/// // A device whose watchdog fires early, and short of memory.
/// let options = ScheduleOptions::default().with_dispatch_flops(200_000_000).with_window_bytes(16 << 20);
/// assert_ne!(options, ScheduleOptions::default().with_strategy(Strategy::Auto));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScheduleOptions {
    strategy: Option<Strategy>,
    dispatch_flops: Option<u64>,
    window_bytes: Option<u64>,
    workgroups: Option<u32>,
    auto_persistent: Option<bool>,
    spin_limit: Option<u32>,
}

impl ScheduleOptions {
    /// Forces a strategy, or leaves the choice to the crate: [`Strategy::Auto`], the default.
    pub fn with_strategy(self, strategy: Strategy) -> Self {
        Self { strategy: Some(strategy), ..self }
    }

    /// Bounds the FLOPs that a strategy gives to one workgroup in one dispatch, for devices whose watchdog fires earlier than the
    /// default of 2.2·10⁹ allows for: a resident sequence is then cut into more dispatches.
    pub fn with_dispatch_flops(self, dispatch_flops: u64) -> Self {
        Self { dispatch_flops: Some(dispatch_flops), ..self }
    }

    /// Bounds the bytes of workspace that hold the input's products, 256 MiB by default: a longer sequence goes through a layer in
    /// windows of as many steps as fit, so that the memory for a forward pass in inference does not grow with G·H·T.
    pub fn with_window_bytes(self, window_bytes: u64) -> Self {
        Self { window_bytes: Some(window_bytes), ..self }
    }

    /// How many workgroups strategy persistent may count on to run side by side. By default the threads of a software adapter, on a GPU
    /// what [`Context::measure_residency`](crate::Context::measure_residency) found, or 8 while nothing is known. Where fewer run, its
    /// dispatches fail and are repaired.
    pub fn with_workgroups(self, workgroups: u32) -> Self {
        Self { workgroups: Some(workgroups.max(1)), ..self }
    }

    /// Whether [`Strategy::Auto`] may choose strategy persistent, which it does by default: where a tuning found it fastest, and without
    /// one where [`Context::measure_residency`](crate::Context::measure_residency) has seen workgroups run side by side. A dispatch
    /// whose workgroups do not loses at most 2 ms to its roll call, and is repaired on the GPU.
    pub fn with_auto_persistent(self, allowed: bool) -> Self {
        Self { auto_persistent: Some(allowed), ..self }
    }

    /// Bounds how often a workgroup of strategy persistent polls for one value before the dispatch fails and is repaired.
    pub fn with_spin_limit(self, spin_limit: u32) -> Self {
        // So that counting polls up to it ends.
        Self { spin_limit: Some(spin_limit.min(1 << 30)), ..self }
    }
}

/// How the recurrences of a network are to be scheduled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scheduling {
    /// `Auto` unless one is forced, or chosen for a plan.
    pub strategy: Strategy,
    /// Whether strategy persistent may be chosen.
    pub persistent: bool,
    pub settings: Settings,
}

impl Scheduling {
    /// What is right before anything is known of the device.
    pub fn new(ctx: &Context) -> Self {
        Self { strategy: Strategy::Auto, persistent: true, settings: Settings::new(ctx) }
    }

    /// With what an app says of it.
    pub fn with(self, said: &ScheduleOptions) -> Self {
        let now = self.settings;
        let settings = Settings {
            dispatch_flops: said.dispatch_flops.unwrap_or(now.dispatch_flops),
            workgroups: said.workgroups.unwrap_or(now.workgroups),
            spin_limit: said.spin_limit.unwrap_or(now.spin_limit),
            window_bytes: said.window_bytes.unwrap_or(now.window_bytes),
            ..now
        };
        let strategy = said.strategy.unwrap_or(self.strategy);
        Self { strategy, persistent: said.auto_persistent.unwrap_or(self.persistent), settings }
    }

    /// With other settings.
    pub fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings;
        change(&mut settings);
        Self { settings, ..self }
    }

    /// With what was chosen for a plan.
    pub fn chosen(self, choice: &Choice) -> Self {
        let Choice { strategy, tiles, .. } = *choice;
        let workgroups = choice.workgroups.unwrap_or(self.settings.workgroups);
        let layout = self.settings.layout_or(choice.layout);
        Self { strategy, settings: Settings { tiles, workgroups, layout, ..self.settings }, ..self }
    }
}
