//! How often to run something, and what its times amount to.

use std::time::Duration;

use super::hooks::Phase;
use super::workload::Kind;
use crate::error::Result;
use crate::timing::clock::Clock;
use crate::timing::{Unsteady, WarmUp, Warmed, unsteady};

/// What the runs of one workload may take together, beyond the fewest.
const BUDGET: Duration = Duration::from_secs(1);
/// After this there is no further run, however few there were.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long it runs at least, even if the median is stable before.
const SHORTEST: Duration = Duration::from_millis(50);
/// A median is stable once its 95 % confidence interval is this fraction of it to either side.
const STABLE: f64 = 0.01;
/// Fewer runs tell nothing of the interval: its ends are the extremes.
const LEAST_STABLE: usize = 10;

/// How often to run.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Fewest runs, unless they take too long.
    least: usize,
    /// Most runs, so that a tiny workload comes to an end.
    most: usize,
    /// Whether a stable median is enough.
    until_stable: bool,
}

impl Effort {
    /// GPU time varies less.
    pub const GPU: Self = Self { least: 3, most: 20, until_stable: false };

    pub fn of(kind: Kind) -> Self {
        let effort = Self { least: 5, most: 1000, until_stable: false };
        match kind {
            Kind::Throughput | Kind::Recurrence { .. } | Kind::Layer { .. } | Kind::Product => {
                Self { until_stable: true, ..effort }
            }
            Kind::Latency => effort,
            // Fewer have no 99th percentile.
            Kind::Stream => Self { least: 100, ..effort },
        }
    }

    fn goes_on(self, times: &Times, elapsed: Duration) -> bool {
        match times.runs() {
            0 => true,
            _ if elapsed >= PATIENCE => false,
            runs if runs < self.least => true,
            runs if runs >= self.most => false,
            _ => elapsed < BUDGET && !(self.until_stable && elapsed >= SHORTEST && times.is_stable()),
        }
    }
}

/// Warms up, times, and times again what was not of one level.
pub(super) struct Timer<'a, N> {
    pub clock: Clock<N>,
    pub warm_up: WarmUp,
    /// Whether what was not of one level is measured again, once. On a software adapter it is other programs that disturb, and they
    /// will go on.
    pub again: bool,
    pub stop: &'a dyn Fn() -> bool,
    pub phase: &'a dyn Fn(Phase),
}

/// What a timer found.
#[derive(Debug)]
pub(super) struct Timed {
    pub times: Times,
    /// The first warm-up.
    pub warmed: Warmed,
    pub is_again: bool,
}

impl<N: Fn() -> Duration> Timer<'_, N> {
    pub async fn time(&self, effort: Effort, mut run: impl AsyncFnMut() -> Result<()>) -> Result<Timed> {
        let now = || self.clock.now();
        (self.phase)(Phase::WarmingUp);
        let warmed = self.warm_up.run(&now, self.stop, async || self.clock.time(&mut run).await).await?;
        (self.phase)(Phase::Timing);
        let mut times = self.once(effort, &mut run).await?;
        let is_again = self.again && times.unsteady().is_some() && !(self.stop)();
        if is_again {
            (self.phase)(Phase::WarmingUp);
            self.warm_up.run(&now, self.stop, async || self.clock.time(&mut run).await).await?;
            (self.phase)(Phase::Timing);
            times = self.once(effort, &mut run).await?;
        }
        Ok(Timed { times, warmed, is_again })
    }

    async fn once(&self, effort: Effort, run: &mut impl AsyncFnMut() -> Result<()>) -> Result<Times> {
        let time = async || self.clock.time(run).await.map(Some);
        let times = Times::collect(&|| self.clock.now(), effort, self.stop, time).await?;
        Ok(Times { tick_ms: self.clock.coarse_ms(), ..times.unwrap_or_default() })
    }
}

/// How long each run took. By a coarse clock, as browsers have, a short run is the mean over several.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// Milliseconds, in ascending order.
    sorted: Vec<f64>,
    /// The same in the order in which they were measured.
    in_order: Vec<f64>,
    tick_ms: Option<f64>,
}

impl Times {
    /// What `run` says that it took; nothing if it once cannot say. `now` is what the effort goes by.
    pub(super) async fn collect(
        now: &impl Fn() -> Duration,
        effort: Effort,
        stop: &dyn Fn() -> bool,
        mut run: impl AsyncFnMut() -> Result<Option<f64>>,
    ) -> Result<Option<Self>> {
        let (mut times, start) = (Self::default(), now());
        // What is stopped and has begun ends, with one run if it must.
        while effort.goes_on(&times, now() - start) && !(times.runs() > 0 && stop()) {
            match run().await? {
                Some(time) => times.insert(time),
                None => return Ok(None),
            }
        }
        Ok(Some(times))
    }

    /// From milliseconds measured elsewhere, in the order in which they were.
    pub fn of(ms: impl IntoIterator<Item = f64>) -> Self {
        let mut times = Self::default();
        ms.into_iter().for_each(|ms| times.insert(ms));
        times
    }

    fn insert(&mut self, time: f64) {
        self.in_order.push(time);
        self.sorted.insert(self.sorted.partition_point(|&t| t < time), time);
    }

    /// Milliseconds of a tick of the clock, where it is so coarse that a time may be the mean over several runs.
    pub fn tick_ms(&self) -> Option<f64> {
        self.tick_ms
    }

    /// Milliseconds of each run, in the order in which they were measured.
    pub fn runs_ms(&self) -> &[f64] {
        &self.in_order
    }

    pub(super) fn unsteady(&self) -> Option<Unsteady> {
        unsteady(&self.in_order)
    }

    fn is_stable(&self) -> bool {
        self.runs() > LEAST_STABLE && self.spread() <= STABLE
    }

    /// How many there are, at least one.
    pub fn runs(&self) -> usize {
        self.sorted.len()
    }

    /// The least, in milliseconds.
    pub fn min(&self) -> f64 {
        self.sorted[0]
    }

    /// In milliseconds.
    pub fn median(&self) -> f64 {
        let n = self.runs();
        (self.sorted[(n - 1) / 2] + self.sorted[n / 2]) / 2.0
    }

    /// The least time that 99 % of the runs do not exceed; of fewer than 100 runs, the slowest.
    pub fn p99(&self) -> f64 {
        self.sorted[(99 * self.runs()).div_ceil(100) - 1]
    }

    /// Half the 95 % confidence interval of the median, as a fraction of it. By order statistics: the true median lies
    /// between the values of ranks n/2 ± 0.98·√n, whatever the distribution.
    pub fn spread(&self) -> f64 {
        let n = self.runs() as f64;
        let low = (n / 2.0 - 0.98 * n.sqrt()).floor().max(0.0) as usize;
        let high = self.runs() - 1 - low;
        (self.sorted[high] - self.sorted[low]) / 2.0 / self.median()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timing::simulated::Device;

    fn times(times: impl IntoIterator<Item = f64>) -> Times {
        Times::of(times)
    }

    #[test]
    fn median_and_spread() {
        let hundred = times((1..=100).rev().map(f64::from));
        assert_eq!((hundred.median(), hundred.min(), hundred.runs()), (50.5, 1.0, 100));
        // Ranks 40 and 59 of 0..=99.
        assert_eq!(hundred.spread(), (60.0 - 41.0) / 2.0 / 50.5);
        let few = times([3.0, 1.0, 2.0]);
        assert_eq!((few.median(), few.spread()), (2.0, 0.5));
    }

    #[test]
    fn p99_leaves_one_in_a_hundred_above_it() {
        for (runs, p99) in [(1, 1.0), (99, 99.0), (100, 99.0), (101, 100.0), (1000, 990.0)] {
            assert_eq!(times((1..=runs).map(f64::from)).p99(), p99, "{runs} runs");
        }
    }

    #[test]
    fn knows_when_to_stop() {
        let [throughput, latency, stream] = [Kind::Throughput, Kind::Latency, Kind::Stream].map(Effort::of);
        let (same, mixed) = (|n| times(vec![1.0; n]), |n: usize| times((0..n).map(|k| 1.0 + k as f64)));
        let [soon, late, too_late] = [0.5, 1.5, 6.0].map(Duration::from_secs_f64);
        for (effort, times, elapsed, goes_on) in [
            (throughput, same(0), too_late, true),
            (throughput, same(1), too_late, false),
            (throughput, same(4), late, true),
            (throughput, same(5), late, false),
            (throughput, same(10), soon, true),
            (throughput, same(11), soon, false),
            (throughput, mixed(11), soon, true),
            (throughput, mixed(1000), soon, false),
            (latency, same(11), soon, true),
            (latency, same(1000), soon, false),
            (stream, same(99), late, true),
            (stream, same(99), too_late, false),
            (stream, same(100), late, false),
        ] {
            assert_eq!(effort.goes_on(&times, elapsed), goes_on, "{effort:?}, {} runs, {elapsed:?}", times.runs());
        }
    }

    #[test]
    fn ends_with_one_run_where_it_is_stopped() {
        for (stops, runs) in [(true, 1), (false, 20)] {
            let device = Device::warm();
            let timed = timed(&device, Effort::GPU, &|| stops, |_| 1.0);
            assert_eq!(timed.times.runs(), runs);
        }
    }

    /// Timed by the clock of a simulated device; gives the milliseconds of work that run `n` does.
    fn timed(device: &Device, effort: Effort, stop: &dyn Fn() -> bool, work: impl Fn(u32) -> f64) -> Timed {
        let clock = Clock::new(|| {
            device.idle_for(1e-5);
            device.now()
        });
        let timer = Timer { clock, warm_up: WarmUp::GPU, again: true, stop, phase: &|_| () };
        pollster::block_on(timer.time(effort, async || {
            device.run(work(device.runs.get()));
            Ok(())
        }))
        .unwrap()
    }

    /// What no interval shows: runs at an idle clock, each as slow as the other.
    #[test]
    fn an_idle_clock_is_warmed_up_first() {
        let device = Device { ramp_ms: 1000.0, ..Device::idle() };
        device.idle_for(2000.0);
        let cold: Vec<f64> = (0..11).map(|_| device.run(0.1)).collect();
        assert!(times(cold.clone()).median() > 0.5 && times(cold).is_stable());
        let timed = timed(&device, Effort::of(Kind::Throughput), &|| false, |_| 0.1);
        assert!((timed.times.median() / 0.1 - 1.0).abs() < 0.01, "{timed:?}");
        assert!(!timed.is_again && timed.warmed.is_steady && timed.times.unsteady().is_none());
    }

    /// A step while it is timed: the second measurement is of one level. Two levels by turns stay two.
    #[test]
    fn what_is_not_of_one_level_is_measured_again() {
        let device = Device { step: Some((700, 1.5)), ..Device::warm() };
        let stepped = timed(&device, Effort::of(Kind::Latency), &|| false, |_| 1.0);
        assert!(stepped.is_again && stepped.times.unsteady().is_none(), "{:?}", stepped.times.unsteady());
        assert!((stepped.times.median() - 1.5).abs() < 0.02);
        let levels = timed(&Device::warm(), Effort::of(Kind::Latency), &|| false, |run| if run % 2 == 0 { 1.0 } else { 1.2 });
        assert!(levels.is_again && levels.times.unsteady() == Some(Unsteady::TwoLevels));
    }
}
