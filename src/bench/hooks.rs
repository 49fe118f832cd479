//! What a measurement tells while it runs, and what it does meanwhile.

use super::workload::Workload;
use crate::rnn::Rnn;
#[cfg(not(target_arch = "wasm32"))]
use crate::timing::clock::{Instant, milliseconds};
#[cfg(not(target_arch = "wasm32"))]
use crate::tune::strategies::build_all;

/// What a workload is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Strategies and tiles are tried; whoever tunes tells.
    Tuning,
    /// Results are checked against the reference.
    Verifying,
    /// It runs until it gets no faster.
    WarmingUp,
    /// Its runs count.
    Timing,
}

impl Phase {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tuning => "tuning",
            Self::Verifying => "verifying",
            Self::WarmingUp => "warming up",
            Self::Timing => "timing",
        }
    }
}

/// What a measurement asks and tells. [`Default`] asks and tells nothing.
pub struct Hooks<'a> {
    /// Where it says so, no more times are taken than must be.
    pub stop: &'a dyn Fn() -> bool,
    /// Told what begins.
    pub phase: &'a dyn Fn(Phase),
    /// What will be measured next.
    pub next: Option<Next>,
    /// Whether each dispatch of a run is timed too, after the run as a whole.
    pub dispatches: bool,
}

impl Default for Hooks<'_> {
    fn default() -> Self {
        Self { stop: &|| false, phase: &|_| (), next: None, dispatches: false }
    }
}

/// A network whose pipelines are built on another thread while the CPU verifies the one before it. Browsers have no such thread.
#[derive(Debug, Clone)]
pub struct Next {
    /// The network as it will run, or be tuned.
    pub rnn: Rnn,
    /// What it will run.
    pub workload: Workload,
    /// Whether it will be tuned first: then every strategy that tuning tries is built.
    pub tunes: bool,
}

#[cfg(not(target_arch = "wasm32"))]
impl Next {
    /// Builds what it needs, and gives the milliseconds of it. What does not fit a device says so when it is its turn.
    pub(super) fn build(&self) -> f64 {
        let start = Instant::now();
        let rnns = if self.tunes { self.candidates() } else { vec![self.rnn.clone()] };
        build_all(&rnns, self.workload.shape, self.workload.mode);
        milliseconds(start.elapsed())
    }

    fn candidates(&self) -> Vec<Rnn> {
        let all = self.rnn.candidates(self.workload.shape, self.workload.mode).unwrap_or_default();
        all.into_iter().map(|candidate| self.rnn.clone().with_candidate(candidate)).collect()
    }
}
