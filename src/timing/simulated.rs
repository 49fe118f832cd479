//! A device that is not there, with a clock that ramps up under load and falls when it idles, and time of its own: what timing must
//! not be fooled by.

use std::cell::Cell;
use std::time::Duration;

/// The part of full clock that an idle H200 runs at: 345 of 1980 MHz.
const IDLE: f64 = 345.0 / 1980.0;

#[derive(Debug)]
pub(crate) struct Device {
    /// Milliseconds since it was made.
    pub time: Cell<f64>,
    /// Milliseconds of work that its clock has seen.
    pub busy: Cell<f64>,
    /// Milliseconds of work that take the clock from idle to full.
    pub ramp_ms: f64,
    /// How much longer every third run takes, as a part.
    pub noise: f64,
    /// From this run on everything takes this many times as long.
    pub step: Option<(u32, f64)>,
    pub runs: Cell<u32>,
}

impl Device {
    pub fn idle() -> Self {
        Self { time: Cell::new(0.0), busy: Cell::new(0.0), ramp_ms: 400.0, noise: 0.0, step: None, runs: Cell::new(0) }
    }

    pub fn warm() -> Self {
        let device = Self::idle();
        device.busy.set(device.ramp_ms);
        device
    }

    pub fn now(&self) -> Duration {
        Duration::from_secs_f64(self.time.get() * 1e-3)
    }

    /// Does work that takes `ms` milliseconds at full clock; returns how many it took.
    pub fn run(&self, work_ms: f64) -> f64 {
        let (mut left, mut took) = (work_ms, 0.0);
        while left > 0.0 {
            let clock = (IDLE + (1.0 - IDLE) * self.busy.get() / self.ramp_ms).min(1.0);
            // In slices over which the clock hardly changes.
            let slice = (left / clock).min(1.0);
            left -= slice * clock;
            took += slice;
            self.busy.set(self.busy.get() + slice);
        }
        self.runs.set(self.runs.get() + 1);
        if self.runs.get().is_multiple_of(3) {
            took *= 1.0 + self.noise;
        }
        if let Some((_, factor)) = self.step.filter(|&(from, _)| self.runs.get() >= from) {
            took *= factor;
        }
        self.time.set(self.time.get() + took);
        took
    }

    /// Waits while the host does something else: after half a second the clock is down.
    pub fn idle_for(&self, ms: f64) {
        self.time.set(self.time.get() + ms);
        self.busy.set((self.busy.get().min(self.ramp_ms) * (1.0 - ms / 500.0)).max(0.0));
    }
}
