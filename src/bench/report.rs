//! What `bench` found, as JSON for programs.

use serde::Serialize;

use super::description::Description;
use super::dispatch_times::DispatchTime;
use super::floor::Floor;
use super::host::Host;
use super::marks::Mark;
use super::measure::Measured;
use super::roofline::Roofline;
use super::scaling::Series;
use super::score::Score;
use super::workload::{Kind, Workload};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::network::sequence::Mode;
use crate::schedule::Strategy;
use crate::timing::clock::{SystemTime, UNIX_EPOCH};
use crate::tune::tuning::Tried;

/// The JSON that `tidegate compare` reads. Fields may be added; none goes away or changes its meaning without a new `schema`.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    tidegate_version: &'static str,
    /// Seconds since 1970 when it began.
    unix_time: u64,
    host: Host,
    /// The words of the command, where there was one.
    pub command: Vec<String>,
    /// The commit that the program was built from, where it knows.
    pub commit: Option<&'static str>,
    /// Whether somebody ended it before all had run.
    pub interrupted: bool,
    /// One of each workload on each device.
    pub results: Vec<Entry>,
    /// What each adapter can do at best.
    pub rooflines: Vec<Peaks>,
    /// How fast each device is beside the reference machine.
    pub scores: Vec<Scored>,
    /// Results of suite scaling.
    pub scaling: Vec<Series>,
}

impl Report {
    /// The machine, as it was when the report began.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A report of measurements that begin now on this machine.
    pub fn new(host: Host) -> Self {
        Self {
            schema: 1,
            tidegate_version: env!("CARGO_PKG_VERSION"),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            host,
            command: Vec::new(),
            commit: option_env!("TIDEGATE_COMMIT"),
            interrupted: false,
            results: Vec::new(),
            rooflines: Vec::new(),
            scores: Vec::new(),
            scaling: Vec::new(),
        }
    }
}

/// A device, and what it was found to do at best.
#[derive(Debug, Serialize)]
pub struct Peaks {
    /// The device.
    #[serde(flatten)]
    pub description: Description,
    /// At best.
    #[serde(flatten)]
    pub limits: Limits,
}

/// A device's score.
#[derive(Debug, Serialize)]
pub struct Scored {
    /// The device.
    #[serde(flatten)]
    pub description: Description,
    /// Beside the reference machine.
    #[serde(flatten)]
    pub score: Score,
}

/// What a device was found to do at best.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Limits {
    /// Its peaks.
    #[serde(flatten)]
    pub roofline: Roofline,
    /// Its costs.
    #[serde(flatten)]
    pub floor: Floor,
}

impl Limits {
    /// Takes some seconds, and memory of its own meanwhile: on GPUs up to two buffers of 1 GiB.
    pub async fn measure(ctx: &Context) -> Result<Self> {
        Ok(Self { roofline: Roofline::measure(ctx).await?, floor: Floor::measure(ctx).await? })
    }

    /// What a run's time consists of at best, and the part of its time that it is: launches, round trips between workgroups, memory or
    /// arithmetic, whichever is most.
    fn bound(&self, workload: &Workload, measured: &Measured) -> (&'static str, f64) {
        let ms = measured.times.median();
        let [arithmetic, memory] = self.roofline.least_ms(workload, measured.cooperative);
        let launches = self.floor.fraction(measured.dispatches, ms) * ms;
        // Each step of each layer and pass waits for all words of the one before.
        let passes = if workload.mode == Mode::Training { 2.0 } else { 1.0 };
        let waits = passes * (workload.shape.seq_len * workload.config.num_layers) as f64;
        let is_persistent = measured.strategy == Strategy::Persistent.name();
        let round_trips = self.floor.round_trip_us.filter(|_| is_persistent).map_or(0.0, |us| us * 1e-3 * waits);
        let parts = [("launches", launches), ("round trips", round_trips), ("memory", memory), ("arithmetic", arithmetic)];
        let most = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(parts[0]);
        (most.0, most.1 / ms)
    }

    /// Both as lines for people.
    pub fn lines(&self) -> String {
        self.roofline.line() + &self.floor.line()
    }
}

/// One workload on one device. What was not measured is null.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The workload as `--list` has it.
    #[serde(skip)]
    pub name: String,
    /// The device.
    #[serde(flatten)]
    pub description: Description,
    /// Name of the cell.
    pub cell: String,
    /// `infer` or `train`.
    pub mode: &'static str,
    /// Features of a step.
    #[serde(rename = "I")]
    pub input_size: usize,
    /// Units of each layer and direction.
    #[serde(rename = "H")]
    pub hidden_size: usize,
    /// Layers.
    #[serde(rename = "L")]
    pub num_layers: usize,
    /// 1, or 2 of both ways.
    #[serde(rename = "D")]
    pub num_directions: usize,
    /// Steps.
    #[serde(rename = "T")]
    pub seq_len: usize,
    /// Sequences.
    #[serde(rename = "B")]
    pub batch_size: usize,
    /// How the device stored parameters, input and output.
    pub dtype: &'static str,
    /// The one that ran; of a failure the one that was asked for.
    pub strategy: &'static str,
    /// Whether products of f16 went by cooperative matrices.
    pub cooperative: bool,
    /// Milliseconds of one run.
    pub dispatches: Option<usize>,
    /// Dispatches of strategy persistent that failed and were repaired, of all since the case was bound.
    pub repairs: Option<u32>,
    /// Whether FLOPs include the input product. If not, the time still has the product of the one input feature.
    pub includes_input: bool,
    /// Milliseconds of a run, recorded, submitted and waited for.
    pub ms_median: Option<f64>,
    /// Half the 95 % confidence interval of the median, as a part of it.
    pub ms_median_spread: Option<f64>,
    /// The least.
    pub ms_min: Option<f64>,
    /// The first run, with the building of its pipelines as far as no earlier workload has the same; natively on GPUs those of most
    /// rows are built while the row before is verified, so they compete with that for the CPU.
    pub first_ms: Option<f64>,
    /// Milliseconds that tuning took before it; 0 where it was known or not asked for.
    pub tuning_ms: Option<f64>,
    /// Milliseconds that it took to check its results, while the next row's pipelines may have been built.
    pub verifying_ms: Option<f64>,
    /// Milliseconds for which the workload ran before it was timed, until it got no faster.
    pub warm_up_ms: Option<f64>,
    /// Whether it was measured a second time, for the first times were not of one level.
    pub measured_again: bool,
    /// Time of the GPU alone, by its own clock.
    pub gpu_ms_median: Option<f64>,
    /// The GPU's time of each dispatch, in the order in which they first run, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dispatch_times: Vec<DispatchTime>,
    /// How many times the median is of.
    pub runs: usize,
    /// FLOP/s · 10⁻⁹, by the median.
    pub gflops: Option<f64>,
    /// The time that the device's peaks allow, over the median: see `rooflines`.
    pub roofline_fraction: Option<f64>,
    /// What one submit and as many dispatches cost that do next to nothing, over the median: see `rooflines`.
    pub launch_fraction: Option<f64>,
    /// What the run is bound by as far as the device's limits tell: `launches`, `round trips` of strategy persistent, `memory` or
    /// `arithmetic`, whichever of them takes the most time at best.
    pub bound_by: Option<&'static str>,
    /// That time over the median: what is missing to 1 is lost elsewhere.
    pub bound_fraction: Option<f64>,
    /// Megahertz that the device ran at just after it, where the system tells.
    pub clock_mhz: Option<f64>,
    /// Those that it can run at.
    pub max_clock_mhz: Option<f64>,
    /// Watts that it drew then.
    pub power_watts: Option<f64>,
    /// Why its times are to be doubted.
    pub marks: Vec<Mark>,
    /// Milliseconds of every run, in the order in which they were measured, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runs_ms: Vec<f64>,
    /// Whether it ran and was right.
    pub verified: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Steps at which the reference was met.
    #[serde(rename = "verified_T")]
    pub verified_seq_len: Option<usize>,
    /// Sequences there.
    #[serde(rename = "verified_B")]
    pub verified_batch_size: Option<usize>,
    /// The largest relative L2 error of any tensor.
    pub max_rel_err: Option<f64>,
    /// Whether a run is one chunk of a stream.
    pub stream: bool,
    /// For suite latency and streams: microseconds of a run, over T.
    pub us_per_step_p50: Option<f64>,
    /// The slowest but 1 %.
    pub us_per_step_p99: Option<f64>,
    /// For streams: the same by a `Session`, with input and output on the host.
    pub us_per_step_host_p50: Option<f64>,
    /// The slowest but 1 %.
    pub us_per_step_host_p99: Option<f64>,
    /// What is published: of suite deepbench, the recurrence alone, for cuDNN 7.6.2 on a V100; of suite recurrence for cuDNN 9.19 on an
    /// H200.
    pub published_ms: Option<f64>,
    /// For suite recurrence: cuDNN on the same card with TF32 instead of f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_tf32_ms: Option<f64>,
    /// Which of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_by: Option<&'static str>,
    /// Whether it ran on purpose without what tuning finds, beside a row with it.
    pub untuned: bool,
    /// What tuning tried, with each time or why there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// A tick in milliseconds, where the clock is so coarse that a time may be the mean over several runs, as in browsers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_tick_ms: Option<f64>,
}

impl Entry {
    /// Microseconds of a run, over T.
    pub fn us_per_step(&self) -> Option<f64> {
        Some(self.ms_median? * 1e3 / self.seq_len as f64)
    }

    /// From what was measured, nothing if that failed; as fractions of `limits` where those are known.
    pub fn new(
        description: &Description,
        workload: &Workload,
        strategy: Strategy,
        measured: Option<Measured>,
        limits: Option<&Limits>,
    ) -> Self {
        let Workload { cell, config, shape, .. } = workload;
        let measured = measured.as_ref();
        let fraction = |m: &Measured| Some(limits?.roofline.fraction(workload, m.cooperative, m.times.median()));
        let bound = measured.and_then(|m| Some(limits?.bound(workload, m)));
        let timed = measured.filter(|_| matches!(workload.kind, Kind::Latency | Kind::Stream));
        let host_times = timed.and_then(|m| m.host_times.as_ref());
        let per_step = |milliseconds: f64| milliseconds * 1e3 / shape.seq_len as f64;
        Self {
            name: workload.to_string(),
            cell: cell.name().into(),
            mode: workload.mode_name(),
            input_size: config.input_size,
            hidden_size: config.hidden_size,
            num_layers: config.num_layers,
            num_directions: config.num_directions(),
            seq_len: shape.seq_len,
            batch_size: shape.batch_size,
            dtype: if description.device_type == "cpu-reference" { "f64" } else { workload.dtype.name() },
            strategy: measured.map_or(strategy.name(), |m| m.strategy),
            cooperative: measured.is_some_and(|m| m.cooperative),
            dispatches: measured.map(|m| m.dispatches),
            repairs: measured.map(|m| m.repairs),
            includes_input: workload.includes_input(),
            ms_median: measured.map(|m| m.times.median()),
            ms_median_spread: measured.filter(|m| m.times.runs() > 1).map(|m| m.times.spread()),
            ms_min: measured.map(|m| m.times.min()),
            first_ms: measured.map(|m| m.first),
            tuning_ms: measured.map(|m| m.tuning),
            verifying_ms: measured.map(|m| m.verifying),
            warm_up_ms: measured.map(|m| m.warm_up),
            measured_again: measured.is_some_and(|m| m.is_again),
            gpu_ms_median: measured.and_then(|m| Some(m.gpu_times.as_ref()?.median())),
            dispatch_times: measured.map_or_else(Vec::new, |m| m.dispatch_times.clone()),
            runs: measured.map_or(0, |m| m.times.runs()),
            gflops: measured.map(|m| workload.flops() / m.times.median() * 1e-6),
            roofline_fraction: measured.and_then(fraction),
            launch_fraction: measured.and_then(|m| Some(limits?.floor.fraction(m.dispatches, m.times.median()))),
            bound_by: bound.map(|(by, _)| by),
            bound_fraction: bound.map(|(_, fraction)| fraction),
            clock_mhz: None,
            max_clock_mhz: None,
            power_watts: None,
            marks: measured.map_or_else(Vec::new, |m| Mark::of(m, fraction(m))),
            runs_ms: Vec::new(),
            verified: measured.is_some(),
            error: None,
            verified_seq_len: measured.map(|m| m.verified.shape.seq_len),
            verified_batch_size: measured.map(|m| m.verified.shape.batch_size),
            max_rel_err: measured.map(|m| m.verified.max_rel_err),
            stream: workload.is_stream(),
            us_per_step_p50: timed.map(|m| per_step(m.times.median())),
            us_per_step_p99: timed.map(|m| per_step(m.times.p99())),
            us_per_step_host_p50: host_times.map(|times| per_step(times.median())),
            us_per_step_host_p99: host_times.map(|times| per_step(times.p99())),
            published_ms: workload.published_ms(),
            published_tf32_ms: workload.published_tf32_ms(),
            published_by: workload.published_by(),
            untuned: false,
            tried: Vec::new(),
            clock_tick_ms: measured.and_then(|m| m.times.tick_ms()),
            description: description.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::times::{Effort, Times};
    use super::super::verify::Verified;
    use super::*;
    use crate::cell::by_name;
    use crate::gpu::dtype::Dtype;
    use crate::network::config::RnnConfig;
    use crate::network::sequence::SeqShape;

    /// A run of 4 steps that took 2 ms each time, 3 ms with the host.
    fn entry(kind: Kind, ran: bool) -> Entry {
        let roofline = Roofline { peak_gflops: 0.001, peak_gbytes: 0.001, ..Roofline::default() };
        let floor = Floor { submit_us: 100.0, dispatch_us: 20.0, round_trip_us: None, round_trip_workgroups: 2 };
        let limits = Limits { roofline, floor };
        let (shape, mode) = (SeqShape { seq_len: 4, batch_size: 1 }, Mode::Inference);
        let workload =
            Workload { cell: by_name("gru").unwrap(), config: RnnConfig::new(3, 5), shape, mode, kind, dtype: Dtype::F32 };
        let times =
            |ms| pollster::block_on(Times::collect(&|| Duration::ZERO, Effort::GPU, &|| false, async || Ok(Some(ms)))).unwrap();
        let measured = Measured {
            strategy: "stepwise",
            dispatches: 6,
            cooperative: false,
            repairs: 0,
            first: 7.0,
            tuning: 0.0,
            verifying: 0.0,
            warm_up: 300.0,
            is_again: false,
            times: times(2.0).unwrap(),
            gpu_times: None,
            dispatch_times: Vec::new(),
            host_times: times(3.0).filter(|_| kind == Kind::Stream),
            verified: Verified { shape, max_rel_err: 1e-7 },
        };
        Entry::new(&Description::cpu(), &workload, Strategy::Auto, ran.then_some(measured), Some(&limits))
    }

    #[test]
    fn time_per_step_is_that_of_a_run_over_t() {
        let times = |e: Entry| [e.us_per_step_p50, e.us_per_step_p99, e.us_per_step_host_p50, e.us_per_step_host_p99];
        assert_eq!(times(entry(Kind::Throughput, true)), [None; 4]);
        assert_eq!(times(entry(Kind::Product, true)), [None; 4]);
        assert_eq!(times(entry(Kind::Latency, true)), [Some(500.0), Some(500.0), None, None]);
        assert_eq!(times(entry(Kind::Stream, true)), [500.0, 500.0, 750.0, 750.0].map(Some));
        assert_eq!(times(entry(Kind::Stream, false)), [None; 4]);
    }

    #[test]
    fn the_roofline_is_the_slower_of_both_peaks() {
        // 4 steps of 2·3·5·(3 + 5) FLOPs, and 120 weights with 4 rows of 3 + 5 values, at a million a second each.
        let (flops, bytes) = (960.0, 4.0 * (120.0 + 32.0));
        assert!(flops > bytes);
        assert_eq!(entry(Kind::Throughput, true).roofline_fraction, Some(flops * 1e-3 / 2.0));
        assert_eq!(entry(Kind::Throughput, false).roofline_fraction, None);
    }

    /// The submit has one of the 6 dispatches in it, so 200 µs of 2 ms.
    #[test]
    fn launches_cost_a_submit_and_the_dispatches_after_its_own() {
        assert_eq!(entry(Kind::Throughput, true).launch_fraction, Some(0.1));
        assert_eq!(entry(Kind::Throughput, false).launch_fraction, None);
    }

    /// Out of 2 ms arithmetic takes 960 µs, memory 608, 6 dispatches 200.
    #[test]
    fn what_takes_most_is_the_bound() {
        let entry = entry(Kind::Throughput, true);
        assert_eq!((entry.bound_by, entry.bound_fraction), (Some("arithmetic"), Some(0.48)));
        assert!(entry.marks.is_empty());
    }
}
