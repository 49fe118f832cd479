//! What makes a row's times doubtful.

use serde::Serialize;

use super::host::Host;
use super::measure::Measured;
use crate::timing::Unsteady;

/// A median whose 95 % confidence interval is wider than this part of it to either side is noise.
const SPREAD: f64 = 0.05;
/// GPU time may exceed the wall time of other runs by this part of it.
const OVER_WALL: f64 = 0.02;

/// Why a row's times are to be doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// The median's interval is over 5 %.
    Spread,
    /// The first half of the runs and the second differ by more than 5 %.
    Step,
    /// The runs are of two speeds.
    TwoLevels,
    /// The GPU's own clock tells of more time than passed.
    GpuOverWall,
    /// It takes less time than the device's measured peaks allow.
    OverPeak,
    /// Others were at work on the machine.
    Busy,
}

impl Mark {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Spread, Self::Step, Self::TwoLevels, Self::GpuOverWall, Self::OverPeak, Self::Busy];

    /// What `measured` deserves, its part of the roofline among it.
    pub(super) fn of(measured: &Measured, roofline_fraction: Option<f64>) -> Vec<Self> {
        let times = &measured.times;
        let unsteady = times.unsteady().map(|unsteady| match unsteady {
            Unsteady::Step => Self::Step,
            Unsteady::TwoLevels => Self::TwoLevels,
        });
        let gpu = measured.gpu_times.as_ref().map_or(0.0, |gpu| gpu.median());
        let found = [
            (times.runs() > 1 && times.spread() > SPREAD).then_some(Self::Spread),
            unsteady,
            (gpu > (1.0 + OVER_WALL) * times.median()).then_some(Self::GpuOverWall),
            roofline_fraction.is_some_and(|fraction| fraction > 1.0).then_some(Self::OverPeak),
        ];
        found.into_iter().flatten().collect()
    }

    /// The one of a machine whose load was over half its cores before anything ran.
    pub fn of_host(host: &Host) -> Option<Self> {
        let (load, cpus) = (host.load_average?, host.cpus?);
        (load > cpus as f64 / 2.0).then_some(Self::Busy)
    }

    /// A word for a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spread => "noisy",
            Self::Step => "step",
            Self::TwoLevels => "two levels",
            Self::GpuOverWall => "GPU > wall",
            Self::OverPeak => "over peak",
            Self::Busy => "busy",
        }
    }

    /// What it means, below a table.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Spread => "the median's 95 % interval is over 5 % to either side",
            Self::Step => {
                "the first and the second half of the runs differ by more than 5 %: the device's clock, or another program"
            }
            Self::TwoLevels => "the runs are of two speeds, more than 5 % apart",
            Self::GpuOverWall => {
                "the adapter's timestamps tell of more time than runs took without them: a clock changed in between, or on a software \
                 adapter, which runs on the CPU, other programs slowed those runs"
            }
            Self::OverPeak => "less time than the measured peaks allow: an error of the peaks, not a feat",
            Self::Busy => "the machine's load was over half its cores before anything ran: times are too long, and vary",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::times::Times;
    use super::super::verify::Verified;
    use super::*;
    use crate::network::sequence::SeqShape;

    fn marks(ms: Vec<f64>, gpu_ms: Option<f64>, roofline_fraction: Option<f64>) -> Vec<Mark> {
        let measured = Measured {
            strategy: "stepwise",
            dispatches: 6,
            first: 7.0,
            tuning: 0.0,
            verifying: 0.0,
            warm_up: 300.0,
            times: Times::of(ms),
            is_again: false,
            gpu_times: gpu_ms.map(|ms| Times::of([ms])),
            dispatch_times: Vec::new(),
            host_times: None,
            cooperative: false,
            verified: Verified { shape: SeqShape { seq_len: 1, batch_size: 1 }, max_rel_err: 0.0 },
            repairs: 0,
        };
        Mark::of(&measured, roofline_fraction)
    }

    #[test]
    fn rows_are_marked_for_what_is_wrong_with_them() {
        let even = || vec![1.0; 12];
        assert_eq!(marks(even(), Some(1.01), Some(0.99)), []);
        assert_eq!(marks(vec![1.0], None, None), []);
        // 1.00 to 1.39 in an order that no half is slower in.
        let wide = (0..40).map(|k| 1.0 + 0.01 * f64::from(k * 17 % 40));
        assert_eq!(marks(wide.collect(), None, None), [Mark::Spread]);
        // Halves of the runs, and runs by turns.
        let halves = (0..40).map(|k| if k < 20 { 1.0 } else { 1.2 });
        assert_eq!(marks(halves.collect(), None, None), [Mark::Spread, Mark::Step]);
        let turns = (0..40).map(|k| if k % 2 == 0 { 1.0 } else { 1.2 });
        assert_eq!(marks(turns.collect(), None, None), [Mark::Spread, Mark::TwoLevels]);
        assert_eq!(marks(even(), Some(1.03), None), [Mark::GpuOverWall]);
        assert_eq!(marks(even(), None, Some(1.01)), [Mark::OverPeak]);
    }

    #[test]
    fn a_machine_is_busy_from_half_its_cores_on() {
        let host = |load, cpus| Host { load_average: load, cpus, ..Host::default() };
        assert_eq!(Mark::of_host(&host(Some(4.1), Some(8))), Some(Mark::Busy));
        assert_eq!(Mark::of_host(&host(Some(3.9), Some(8))), None);
        assert_eq!(Mark::of_host(&host(None, Some(8))), None);
    }

    #[test]
    fn each_has_a_word_of_its_own() {
        let all = Mark::ALL;
        for (at, mark) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other.name() != mark.name() && other.sentence() != mark.sentence()));
        }
        assert_eq!(serde_json::to_string(&all[..3]).unwrap(), r#"["spread","step","two-levels"]"#);
    }
}
