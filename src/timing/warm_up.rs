//! The warm-up before anything is timed. An idle GPU lowers its clock, by up to 5.7 times on an H200, and takes some 100 ms of work to
//! raise it again: what is timed meanwhile is stable and wrong.

use std::time::Duration;

use super::median;
use crate::error::Result;
use crate::gpu::context::Context;

/// A block's median that is lower by more than this part than the last that was, is still falling.
const CHANGE: f64 = 0.02;
/// So many blocks in a row that are not end the warm-up: one may be slow by chance, and a slow fall takes several.
const BLOCKS: usize = 3;

/// How long to warm up: whole blocks of runs, until their medians stop falling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct WarmUp {
    block: Duration,
    least: Duration,
    most: Duration,
}

/// What a warm-up was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Warmed {
    pub time: Duration,
    /// Whether it ended because the medians had stopped falling, not for want of time.
    pub is_steady: bool,
}

impl WarmUp {
    pub const GPU: Self =
        Self { block: Duration::from_millis(50), least: Duration::from_millis(300), most: Duration::from_secs(3) };
    /// A software adapter runs at the CPU's clock, which whatever ran before has raised.
    pub const SOFTWARE: Self = Self { block: Duration::from_millis(5), least: Duration::ZERO, most: Duration::from_millis(50) };

    pub fn of(ctx: &Context) -> Self {
        if ctx.is_software() { Self::SOFTWARE } else { Self::GPU }
    }

    /// Runs over and over until that is no longer getting faster. `time` runs once and gives any measure of how long it took; `now` is
    /// the clock that blocks are cut by.
    pub async fn run(
        self,
        now: &impl Fn() -> Duration,
        stop: &dyn Fn() -> bool,
        mut time: impl AsyncFnMut() -> Result<f64>,
    ) -> Result<Warmed> {
        let (start, mut level, mut steady) = (now(), f64::INFINITY, 0);
        loop {
            let (block, mut times) = (now(), Vec::new());
            while times.is_empty() || now() - block < self.block {
                times.push(time().await?);
            }
            let (elapsed, typical) = (now() - start, median(&times));
            steady += 1;
            if typical < level * (1.0 - CHANGE) {
                (level, steady) = (typical, 0);
            }
            let is_steady = steady >= BLOCKS && elapsed >= self.least;
            if is_steady || elapsed >= self.most || stop() {
                return Ok(Warmed { time: elapsed, is_steady });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Device;
    use super::*;

    fn warm(device: &Device, work_ms: f64) -> Warmed {
        by(WarmUp::GPU, device, work_ms, false)
    }

    fn by(warm_up: WarmUp, device: &Device, work_ms: f64, stop: bool) -> Warmed {
        let now = || device.now();
        pollster::block_on(warm_up.run(&now, &|| stop, async || Ok(device.run(work_ms)))).unwrap()
    }

    /// From an idle clock, by runs of any length: after it a run takes what it takes at full clock.
    #[test]
    fn lasts_until_the_clock_is_up() {
        for work_ms in [0.02, 1.0, 4.5, 70.0, 400.0] {
            let device = Device::idle();
            let cold = device.run(work_ms);
            let warmed = warm(&device, work_ms);
            let time = device.run(work_ms);
            assert!(cold > 2.0 * work_ms || work_ms > 100.0, "{work_ms} ms took {cold}");
            assert!(time < 1.01 * work_ms, "{work_ms} ms took {time} after {warmed:?}");
            assert!(warmed.time >= Duration::from_millis(300) && warmed.time < Duration::from_secs(3), "{warmed:?}");
            assert!(warmed.is_steady);
        }
    }

    /// Times that differ by a tenth from run to run hold nothing up.
    #[test]
    fn noise_does_not_prolong_it() {
        let device = Device { noise: 0.1, ..Device::warm() };
        assert!(warm(&device, 2.0).time < Duration::from_millis(800));
    }

    /// A device that gets faster for ever, and runs that take longer than all of the time.
    #[test]
    fn ends_in_time() {
        let device = Device { ramp_ms: 10_000.0, ..Device::idle() };
        let warmed = warm(&device, 1.0);
        assert!(!warmed.is_steady && warmed.time < Duration::from_millis(3100), "{warmed:?}");
        assert!(warm(&Device::warm(), 5000.0).time == Duration::from_secs(5));
    }

    #[test]
    fn stops_where_it_is_told() {
        assert!(by(WarmUp::GPU, &Device::idle(), 1.0, true).time < Duration::from_millis(60));
    }

    /// What CI pays on a software adapter.
    #[test]
    fn software_adapters_pay_little() {
        for work_ms in [0.3, 20.0, 500.0] {
            let warmed = by(WarmUp::SOFTWARE, &Device::warm(), work_ms, false);
            assert!(warmed.time.as_secs_f64() * 1e3 < 70.0_f64.max(work_ms + 1.0), "{work_ms}: {warmed:?}");
        }
    }
}
