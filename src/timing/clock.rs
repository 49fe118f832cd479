//! The host's clock, which may tick coarsely.

use std::time::Duration;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use std::time::Instant;
#[cfg(all(feature = "tools", not(target_arch = "wasm32")))]
pub(crate) use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(target_arch = "wasm32")]
pub(crate) use web_time::Instant;
#[cfg(all(feature = "tools", target_arch = "wasm32"))]
pub(crate) use web_time::{SystemTime, UNIX_EPOCH};

use crate::error::Result;

/// A time of this many ticks is accurate to a twentieth.
const LEAST_TICKS: u32 = 20;
/// A clock that ticks within this, as all do natively, can tell the time of any run. Asking it may take as long.
const FINE: Duration = Duration::from_micros(2);
/// The smallest of this many changes is the tick: any disturbance makes one longer.
const CHANGES: usize = 10;

/// Browsers let their clocks tick in steps of 5 µs or 0.1 ms, so that nobody can spy by them. A run that is shorter than a step would
/// seem to take nothing, and one of a few steps a whole number of them. By such a clock a time is the mean over as many runs, one
/// after the other, as make up 20 ticks. Where the clock is fine it is that of one run.
#[derive(Debug)]
pub(crate) struct Clock<N> {
    now: N,
    /// None of a fine clock.
    tick: Option<Duration>,
}

/// The clock of this machine or browser.
pub(crate) fn host() -> Clock<impl Fn() -> Duration> {
    let origin = Instant::now();
    Clock::new(move || origin.elapsed())
}

impl<N: Fn() -> Duration> Clock<N> {
    /// Looks at the clock until it has changed a few times.
    pub fn new(now: N) -> Self {
        let mut last = now();
        let change = |_| {
            let before = last;
            while last == before {
                last = now();
            }
            last - before
        };
        let tick = (0..CHANGES).map(change).min();
        Self { now, tick: tick.filter(|&tick| tick > FINE) }
    }

    /// A clock without ticks.
    #[cfg(test)]
    pub fn fine(now: N) -> Self {
        Self { now, tick: None }
    }

    /// Milliseconds of a tick, where it is so coarse that a time may be the mean over several runs.
    #[cfg(any(test, feature = "tools"))]
    pub fn coarse_ms(&self) -> Option<f64> {
        self.tick.map(milliseconds)
    }

    /// The least milliseconds that one look at the beginning and one at the end can tell; nothing of a fine clock.
    #[cfg(feature = "tools")]
    pub fn least_ms(&self) -> f64 {
        milliseconds(self.least())
    }

    /// Since whenever it began.
    pub fn now(&self) -> Duration {
        (self.now)()
    }

    fn least(&self) -> Duration {
        self.tick.unwrap_or_default() * LEAST_TICKS
    }

    /// Milliseconds of a run.
    pub async fn time(&self, run: &mut impl AsyncFnMut() -> Result<()>) -> Result<f64> {
        let (least, start) = (self.least(), (self.now)());
        let mut runs = 0.0;
        loop {
            run().await?;
            runs += 1.0;
            let elapsed = (self.now)() - start;
            if elapsed >= least {
                return Ok(milliseconds(elapsed) / runs);
            }
        }
    }
}

/// As all times are told here.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Times a run of some µs by a clock of some tick that takes a while to read; returns its time in µs and how often it ran.
    fn timed(tick_us: u64, run_us: u64) -> (f64, u32) {
        // It starts amid a tick.
        let (nanos, runs) = (Cell::new(12_345_678), Cell::new(0));
        let clock = Clock::new(|| {
            nanos.set(nanos.get() + 50);
            let tick = (1000 * tick_us).max(1);
            Duration::from_nanos(nanos.get() / tick * tick)
        });
        let coarse = (tick_us > 0).then_some(tick_us as f64 * 1e-3);
        assert_eq!(clock.coarse_ms(), coarse);
        let mut run = async || {
            nanos.set(nanos.get() + 1000 * run_us);
            runs.set(runs.get() + 1);
            Ok(())
        };
        let time = pollster::block_on(clock.time(&mut run)).unwrap();
        (time * 1e3, runs.get())
    }

    #[test]
    fn a_fine_clock_times_each_run() {
        for run_us in [0, 1, 30, 5000] {
            let (time, runs) = timed(0, run_us);
            assert!(runs == 1 && (time - run_us as f64).abs() < 0.2, "{run_us} µs: {time} µs, {runs} runs");
        }
    }

    /// Runs far shorter than a tick, of about one, and longer than all 20.
    #[test]
    fn by_a_coarse_clock_a_time_is_the_mean_of_some() {
        for (tick_us, run_us) in [(100, 7), (100, 99), (100, 130), (5, 1), (5, 30), (100, 1999), (16_667, 200)] {
            let (time, runs) = timed(tick_us, run_us);
            assert!((time - run_us as f64).abs() < 0.08 * run_us as f64, "{run_us} µs by {tick_us} µs: {time} µs");
            assert!((u64::from(runs) * run_us).abs_diff(20 * tick_us) <= run_us + tick_us, "{run_us} by {tick_us}: {runs} runs");
        }
        let (time, runs) = timed(100, 3456);
        assert!((time - 3456.0).abs() < 100.0 && runs == 1, "{time} µs, {runs} runs");
    }

    #[test]
    fn this_machine_has_a_fine_clock() {
        assert_eq!(host().coarse_ms(), None);
    }
}
