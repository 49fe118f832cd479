//! The GPU's time of every dispatch of a run.

use serde::Serialize;

use crate::gpu::program::Turn;

/// A dispatch of a run, timed by the GPU in a compute pass of its own, so that all together take a little longer than the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DispatchTime {
    /// `forward` or `backward`.
    pub pass: &'static str,
    /// The file of its entry point in `shaders/`.
    pub kernel: &'static str,
    /// Workgroups in x, y and z; none where the device itself decides, as of dispatches that repair.
    pub workgroups: Option<[u32; 3]>,
    /// How often it runs: once for each step where a run has dispatches for each. Those of one step follow each other.
    pub times: usize,
    /// Microseconds, all times together: of each time the median over some runs.
    pub us: f64,
    /// The fastest of these times.
    pub us_min: f64,
    /// The slowest.
    pub us_max: f64,
}

impl DispatchTime {
    /// From the turns of each pass, and from runs that each have the milliseconds of every dispatch in order. Nothing if all those
    /// are 0.
    pub(super) fn of(passes: &[(&'static str, Vec<Turn>)], runs: &[Vec<f64>]) -> Vec<Self> {
        if runs.iter().flatten().all(|&ms| ms <= 0.0) {
            return Vec::new();
        }
        let (mut found, mut before) = (Vec::new(), 0);
        for (pass, turns) in passes {
            for (turn, times) in turns {
                for (at, &(kernel, workgroups)) in turn.iter().enumerate() {
                    let each = (0..*times).map(|time| 1e3 * median(runs, before + time * turn.len() + at));
                    let [us, us_min, us_max] = each
                        .fold([0.0, f64::INFINITY, 0.0], |[sum, min, max], us| [sum + us, f64::min(min, us), f64::max(max, us)]);
                    found.push(Self { pass, kernel, workgroups, times: *times, us, us_min: us_min.min(us_max), us_max });
                }
                before += turn.len() * times;
            }
        }
        found
    }
}

/// Of one dispatch over all runs.
fn median(runs: &[Vec<f64>], dispatch: usize) -> f64 {
    let mut all: Vec<f64> = runs.iter().filter_map(|run| run.get(dispatch)).copied().collect();
    all.sort_by(f64::total_cmp);
    let n = all.len();
    if n == 0 { 0.0 } else { (all[(n - 1) / 2] + all[n / 2]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::super::run::{GpuRun, RunData, rnn};
    use super::super::workload::{Kind, Workload};
    use super::*;
    use crate::cell::by_name;
    use crate::gpu::context::Context;
    use crate::gpu::dtype::Dtype;
    use crate::network::config::RnnConfig;
    use crate::network::sequence::{Mode, SeqShape};
    use crate::schedule::Strategy;

    /// One dispatch, two turns of two, and one that the device decides on.
    #[test]
    fn each_dispatch_has_its_own_times() {
        let forward = vec![(vec![("a", Some([3, 1, 1]))], 1), (vec![("b", Some([1, 2, 1])), ("c", Some([1, 1, 1]))], 2)];
        let passes = [("forward", forward), ("backward", vec![(vec![("d", None)], 1)])];
        let runs = [[5.0, 1.0, 10.0, 2.0, 20.0, 7.0], [4.0, 3.0, 10.0, 4.0, 40.0, 7.0], [9.0, 2.0, 10.0, 9.0, 30.0, 8.0]];
        let found = DispatchTime::of(&passes, &runs.map(|run| run.to_vec()));
        let told: Vec<_> =
            found.iter().map(|d| (d.pass, d.kernel, d.times, [d.us, d.us_min, d.us_max].map(|us| us * 1e-3))).collect();
        assert_eq!(
            told,
            [
                ("forward", "a", 1, [5.0, 5.0, 5.0]),
                ("forward", "b", 2, [6.0, 2.0, 4.0]),
                ("forward", "c", 2, [40.0, 10.0, 30.0]),
                ("backward", "d", 1, [7.0, 7.0, 7.0]),
            ]
        );
        assert_eq!((found[1].workgroups, found[3].workgroups), (Some([1, 2, 1]), None));
        assert_eq!(DispatchTime::of(&passes, &[vec![0.0; 6]]), []);
    }

    /// All dispatches of a run on the device, together not far from what they take in one pass.
    #[test]
    fn a_run_has_as_many_as_it_makes() {
        let ctx = pollster::block_on(Context::request()).unwrap();
        let (config, shape) = (RnnConfig::new(24, 32).with_num_layers(2), SeqShape { seq_len: 6, batch_size: 8 });
        let (cell, mode, kind) = (by_name("lstm").unwrap(), Mode::Training, Kind::Throughput);
        let workload = Workload { cell, config, shape, mode, kind, dtype: Dtype::F32 };
        for strategy in [Strategy::Stepwise, Strategy::Batched] {
            let data = RunData::new(&workload).unwrap();
            let run = GpuRun::new(&rnn(&ctx, &workload, strategy).unwrap(), &workload, &data).unwrap();
            pollster::block_on(run.run()).unwrap();
            let expected = pollster::block_on(run.results()).unwrap();
            let origin = std::time::Instant::now();
            let now = || origin.elapsed();
            let Some(gpu) = pollster::block_on(run.gpu_times(&now, &|| false)).unwrap() else { return };
            let found = pollster::block_on(run.dispatch_times(&now, &|| false)).unwrap();
            // Recorded apart, it is still the same run.
            assert_eq!(pollster::block_on(run.results()).unwrap(), expected, "{strategy:?}");
            assert_eq!(found.iter().map(|d| d.times).sum::<usize>(), run.dispatches(), "{strategy:?}");
            assert!(found.iter().any(|d| d.pass == "backward") && found.iter().all(|d| d.us > 0.0), "{found:?}");
            let forward = format!("recurrence/{}", strategy.name());
            assert!(found.iter().any(|d| d.kernel.starts_with(&forward)), "{found:?}");
            let (together, alone) = (found.iter().map(|d| d.us).sum::<f64>() * 1e-3, gpu.median());
            assert!(together > 0.3 * alone && together < 5.0 * alone, "{strategy:?}: {together} ms of {alone}: {found:?}");
        }
    }
}
