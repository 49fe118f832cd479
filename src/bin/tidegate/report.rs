//! What `bench` found, as JSON for programs.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tidegate::{Context, Error, Strategy};

use crate::comparison::Verdict;
use crate::device::Description;
use crate::floor::Floor;
use crate::measure::Measured;
use crate::roofline::Roofline;
use crate::scaling::Series;
use crate::workload::{Kind, Workload};

/// The JSON file. Fields may be added; none goes away or changes its meaning without a new `schema`.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    tidegate_version: &'static str,
    /// Seconds since 1970 when it began.
    unix_time: u64,
    host: Host,
    /// Whether Ctrl-C ended it before all had run.
    pub interrupted: bool,
    pub results: Vec<Entry>,
    /// What each adapter can do at best.
    pub rooflines: Vec<Peaks>,
    /// Of suite scaling.
    pub scaling: Vec<Series>,
    /// Of `--fail-if-slower-than`.
    pub against: Option<Verdict>,
}

impl Report {
    pub fn new() -> Self {
        Self {
            schema: 1,
            tidegate_version: env!("CARGO_PKG_VERSION"),
            unix_time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            host: Host::new(),
            interrupted: false,
            results: Vec::new(),
            rooflines: Vec::new(),
            scaling: Vec::new(),
            against: None,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Peaks {
    #[serde(flatten)]
    pub description: Description,
    #[serde(flatten)]
    pub roofline: Roofline,
    #[serde(flatten)]
    pub floor: Floor,
}

/// What a device was found to do at best.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub roofline: Roofline,
    pub floor: Floor,
}

impl Limits {
    pub fn measure(ctx: &Context) -> Result<Self, Error> {
        Ok(Self { roofline: Roofline::measure(ctx)?, floor: Floor::measure(ctx)? })
    }

    /// What stands below a device's table.
    pub fn lines(&self) -> String {
        self.roofline.line() + &self.floor.line()
    }
}

#[derive(Debug, Serialize)]
struct Host {
    os: &'static str,
    arch: &'static str,
    cpus: usize,
    cpu: Option<String>,
    /// Of the last minute, on Linux: who else was at work when it began.
    load_average: Option<f64>,
}

impl Host {
    fn new() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { os: std::env::consts::OS, arch: std::env::consts::ARCH, cpus, cpu: cpu_name(), load_average: load_average() }
    }
}

/// The processor's own name, on Linux.
fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}

fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// One workload on one device. What was not measured is null.
#[derive(Debug, Serialize)]
pub struct Entry {
    #[serde(flatten)]
    pub description: Description,
    pub cell: String,
    pub mode: &'static str,
    #[serde(rename = "I")]
    pub input_size: usize,
    #[serde(rename = "H")]
    pub hidden_size: usize,
    #[serde(rename = "L")]
    pub num_layers: usize,
    #[serde(rename = "D")]
    pub num_directions: usize,
    #[serde(rename = "T")]
    pub seq_len: usize,
    #[serde(rename = "B")]
    pub batch_size: usize,
    pub dtype: &'static str,
    pub strategy: &'static str,
    /// Whether products of f16 went by cooperative matrices.
    pub cooperative: bool,
    pub dispatches: Option<usize>,
    /// Dispatches of strategy persistent that failed and were repaired, of all since the case was bound.
    pub repairs: Option<u32>,
    /// Whether FLOPs include the input product. If not, the time still has the product of the one input feature.
    pub includes_input: bool,
    pub ms_median: Option<f64>,
    /// Half the 95 % confidence interval of the median, as a part of it.
    pub ms_median_spread: Option<f64>,
    pub ms_min: Option<f64>,
    /// The first run, with the building of whatever pipelines no earlier workload had built.
    pub first_ms: Option<f64>,
    /// Of the GPU alone, by its own clock.
    pub gpu_ms_median: Option<f64>,
    pub runs: usize,
    pub gflops: Option<f64>,
    /// The time that the device's peaks allow, over the median: see `rooflines`.
    pub roofline_fraction: Option<f64>,
    /// What one submit and as many dispatches cost that do next to nothing, over the median: see `rooflines`.
    pub launch_fraction: Option<f64>,
    pub verified: bool,
    #[serde(rename = "verified_T")]
    pub verified_seq_len: Option<usize>,
    #[serde(rename = "verified_B")]
    pub verified_batch_size: Option<usize>,
    /// The largest relative L2 error of any tensor.
    pub max_rel_err: Option<f64>,
    /// Whether a run is one chunk of a stream.
    pub stream: bool,
    /// Of suite latency and of streams: microseconds of a run, over T.
    pub us_per_step_p50: Option<f64>,
    pub us_per_step_p99: Option<f64>,
    /// Of streams: the same by a `Session`, with input and output on the host.
    pub us_per_step_host_p50: Option<f64>,
    pub us_per_step_host_p99: Option<f64>,
    /// Of suite deepbench, the recurrence alone: what is published for cuDNN 7.6.2 on a V100.
    pub published_ms: Option<f64>,
}

impl Entry {
    pub fn new(
        description: &Description,
        workload: &Workload,
        strategy: Strategy,
        measured: Option<Measured>,
        limits: Option<&Limits>,
    ) -> Self {
        let Workload { cell, config, shape, .. } = workload;
        let measured = measured.as_ref();
        let timed = measured.filter(|_| matches!(workload.kind, Kind::Latency | Kind::Stream));
        let host_times = timed.and_then(|m| m.host_times.as_ref());
        let per_step = |milliseconds: f64| milliseconds * 1e3 / shape.seq_len as f64;
        Self {
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
            gpu_ms_median: measured.and_then(|m| Some(m.gpu_times.as_ref()?.median())),
            runs: measured.map_or(0, |m| m.times.runs()),
            gflops: measured.map(|m| workload.flops() / m.times.median() * 1e-6),
            roofline_fraction: measured.and_then(|m| Some(limits?.roofline.fraction(workload, m.times.median()))),
            launch_fraction: measured.and_then(|m| Some(limits?.floor.fraction(m.dispatches, m.times.median()))),
            verified: measured.is_some(),
            verified_seq_len: measured.map(|m| m.verified.shape.seq_len),
            verified_batch_size: measured.map(|m| m.verified.shape.batch_size),
            max_rel_err: measured.map(|m| m.verified.max_rel_err),
            stream: workload.is_stream(),
            us_per_step_p50: timed.map(|m| per_step(m.times.median())),
            us_per_step_p99: timed.map(|m| per_step(m.times.p99())),
            us_per_step_host_p50: host_times.map(|times| per_step(times.median())),
            us_per_step_host_p99: host_times.map(|times| per_step(times.p99())),
            published_ms: workload.published_ms(),
            description: description.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate::cell::by_name;
    use tidegate::{Dtype, Mode, RnnConfig, SeqShape};

    use super::*;
    use crate::table::table;
    use crate::times::{Effort, Times};
    use crate::verify::Verified;

    /// A run of 4 steps that took 2 ms each time, 3 ms with the host.
    fn entry(kind: Kind, ran: bool) -> Entry {
        let roofline = Roofline { peak_gflops: 0.001, peak_gbytes: 0.001 };
        let floor = Floor { submit_us: 100.0, dispatch_us: 20.0, round_trip_us: None, round_trip_workgroups: 2 };
        let limits = Limits { roofline, floor };
        let (shape, mode) = (SeqShape { seq_len: 4, batch_size: 1 }, Mode::Inference);
        let workload =
            Workload { cell: by_name("gru").unwrap(), config: RnnConfig::new(3, 5), shape, mode, kind, dtype: Dtype::F32 };
        let times = |ms| Times::collect(Effort::GPU, || Ok(Some(ms))).unwrap();
        let measured = Measured {
            strategy: "stepwise",
            dispatches: 6,
            cooperative: false,
            repairs: 0,
            first: 7.0,
            times: times(2.0).unwrap(),
            gpu_times: None,
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

    #[test]
    fn the_table_has_the_columns_that_have_something() {
        let [throughput, stream] = [Kind::Throughput, Kind::Stream].map(|kind| table(&Description::cpu(), &[entry(kind, true)]));
        for text in ["strategy", "stepwise", "dispatches", " 6 ", "median ms", "2.00"] {
            assert!(throughput.contains(text) && stream.contains(text), "{text} in {throughput}{stream}");
        }
        assert!(stream.contains("stream") && stream.contains("µs/step p50") && stream.contains("750"), "{stream}");
        assert!(
            !throughput.contains("µs/step") && !throughput.contains("GPU ms") && throughput.contains("infer"),
            "{throughput}"
        );
        // One that failed leaves gaps in the columns of the others.
        let both = table(&Description::cpu(), &[entry(Kind::Stream, true), entry(Kind::Stream, false)]);
        assert!(both.contains("µs/step p50") && both.contains("FAILED"), "{both}");
    }
}
