//! Several things timed in turns, so that whatever the device does meanwhile meets all of them alike.

use std::time::Duration;

use super::clock::Clock;
use super::{WarmUp, median};
use crate::error::{Error, Result};

/// A turn lasts so long, or one run: shorter runs follow on themselves, as they do in use.
const TURN: Duration = Duration::from_millis(5);
/// Fewest turns of each, and most.
const ROUNDS: [usize; 2] = [3, 20];
/// What is slower than the fastest by this factor after the fewest turns gets no more.
const HOPELESS: f64 = 1.3;
/// What is slower by this factor after one turn gets no second: no disturbance makes up for that, and such a turn may take a second.
const OUT: f64 = 5.0;

/// How to time some things against each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns {
    pub warm_up: WarmUp,
    /// What the turns of one may take beyond the fewest.
    pub budget: Duration,
}

impl Turns {
    /// The median of each in seconds, or why it failed; a lost device ends all. `run` runs the one of that number, of `count`, and says
    /// how often. The first that works warms up for all of them.
    pub async fn time(
        self,
        clock: &Clock<impl Fn() -> Duration>,
        count: usize,
        mut run: impl AsyncFnMut(usize) -> Result<u32>,
    ) -> Result<Vec<Result<f64>>> {
        let mut times: Vec<Result<Vec<f64>>> = (0..count).map(|_| Ok(Vec::new())).collect();
        let mut once = async |of: usize| {
            let mut runs = 1;
            let ms = clock.time(&mut async || run(of).await.map(|made| runs = made)).await?;
            Ok::<_, Error>(ms * 1e-3 / f64::from(runs))
        };
        for (of, all) in times.iter_mut().enumerate() {
            match self.warm_up.run(&|| clock.now(), &|| false, async || once(of).await).await {
                Ok(_) => break,
                Err(Error::DeviceLost) => return Err(Error::DeviceLost),
                Err(error) => *all = Err(error),
            }
        }
        let mut spent = vec![Duration::ZERO; count];
        for round in 0..ROUNDS[1] {
            let fastest =
                times.iter().flatten().filter(|all| !all.is_empty()).map(|all| median(all)).fold(f64::INFINITY, f64::min);
            for of in 0..count {
                let Ok(all) = &mut times[of] else { continue };
                let over = |factor: f64| round > 0 && median(all) > factor * fastest;
                if over(OUT) || round >= ROUNDS[0] && (spent[of] >= self.budget || over(HOPELESS)) {
                    continue;
                }
                let start = clock.now();
                let turn = loop {
                    match once(of).await {
                        Ok(time) => all.push(time),
                        Err(error) => break Err(error),
                    }
                    if clock.now() - start >= TURN {
                        break Ok(());
                    }
                };
                spent[of] += clock.now() - start;
                match turn {
                    Err(Error::DeviceLost) => return Err(Error::DeviceLost),
                    Err(error) => times[of] = Err(error),
                    Ok(()) => {}
                }
            }
        }
        Ok(times.into_iter().map(|all| all.map(|all| median(&all))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Device;
    use super::*;

    fn turns() -> Turns {
        Turns { warm_up: WarmUp::GPU, budget: Duration::from_millis(200) }
    }

    /// One after the other without a warm-up, the first of these would lose to the last by the clock alone.
    #[test]
    fn a_ramping_clock_does_not_choose() {
        let (device, work) = (Device::idle(), [1.0, 1.02, 1.9]);
        let clock = Clock::fine(|| device.now());
        let times = pollster::block_on(turns().time(&clock, 3, async |of| {
            device.run(work[of]);
            Ok(1)
        }))
        .unwrap();
        for (time, work) in times.iter().zip(work) {
            let ms = time.as_ref().unwrap() * 1e3;
            assert!((ms / work - 1.0).abs() < 0.01, "{work} ms: {ms}");
        }
        let cold = Device::idle();
        let one_by_one = work.map(|work| cold.run(work));
        assert!(one_by_one[0] > one_by_one[1], "{one_by_one:?}");
    }

    /// A second a run, beside one of a millisecond: once is enough.
    #[test]
    fn what_is_far_slower_runs_once() {
        let (device, runs) = (Device::warm(), std::cell::RefCell::new([0; 3]));
        let times = pollster::block_on(turns().time(&Clock::fine(|| device.now()), 3, async |of| {
            runs.borrow_mut()[of] += 1;
            device.run([1.0, 1000.0, 4.0][of]);
            Ok(1)
        }))
        .unwrap();
        let runs = runs.into_inner();
        assert!(runs[1] == 1 && runs[2] == 2 * ROUNDS[0] && runs[0] > 100, "{runs:?}");
        assert!((times[1].as_ref().unwrap() - 1.0).abs() < 0.05, "{times:?}");
    }

    /// The device slows down for good while they are timed, early or late: both meet both speeds.
    #[test]
    fn a_step_meets_all_alike() {
        for from in [360, 400, 460] {
            let device = Device { step: Some((from, 2.0)), ..Device::warm() };
            let clock = Clock::fine(|| device.now());
            let times = pollster::block_on(turns().time(&clock, 2, async |of| {
                device.run([1.0, 1.05][of]);
                Ok(1)
            }))
            .unwrap();
            let [a, b] = [0, 1].map(|of| *times[of].as_ref().unwrap());
            assert!((b / a - 1.05).abs() < 0.01, "{from}: {a} {b}");
        }
    }

    #[test]
    fn a_failure_is_kept_and_a_loss_ends_all() {
        let device = Device::idle();
        let clock = Clock::fine(|| device.now());
        let fail = async |of| {
            device.run(1.0);
            if of == 0 { Err(Error::Device("no".into())) } else { Ok(1) }
        };
        let times = pollster::block_on(turns().time(&clock, 2, fail)).unwrap();
        assert!(matches!(&times[0], Err(Error::Device(text)) if text == "no") && times[1].is_ok(), "{times:?}");
        let lost = pollster::block_on(turns().time(&clock, 2, async |_| Err(Error::DeviceLost)));
        assert!(matches!(lost, Err(Error::DeviceLost)));
    }
}
