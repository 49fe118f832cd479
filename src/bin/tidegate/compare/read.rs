//! Results as `bench --json` and the scripts in `benches/peers` write them, those of older versions too.

use serde::Serialize;
use serde_json::Value;

use super::case::Case;
use super::fields::Fields;
use crate::Result;

/// What one program found in one go on one machine.
#[derive(Debug)]
pub struct Recorded {
    /// A peer's name.
    pub program: String,
    pub host: Host,
    pub results: Vec<(Place, Case, Row)>,
    pub peaks: Vec<(Place, Peaks)>,
}

/// Where something ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub device: String,
    pub backend: String,
    pub driver: String,
    /// Version of the backend's API.
    pub api_version: Option<String>,
    pub device_type: String,
    pub dtype: String,
    /// Whether it ran without tuning, beside another that ran with it.
    pub untuned: bool,
}

/// Machine facts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Host {
    pub os: Option<String>,
    pub arch: Option<String>,
    pub cpu: Option<String>,
    pub cpus: Option<u64>,
    pub load_average: Option<f64>,
    /// Versions of the program and of what it builds on.
    pub version: String,
    /// What it was built from, where it knew.
    pub commit: Option<String>,
    /// When it was measured.
    pub unix_time: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Peaks {
    pub peak_gflops: Option<f64>,
    pub peak_gflops_f16: Option<f64>,
    pub peak_gflops_cooperative: Option<f64>,
    pub peak_gbytes: Option<f64>,
    pub peak_gbytes_read: Option<f64>,
    pub peak_gbytes_write: Option<f64>,
    pub load_latency_ns: Option<f64>,
    pub cached_load_latency_ns: Option<f64>,
    pub submit_us: Option<f64>,
    pub dispatch_us: Option<f64>,
    pub round_trip_us: Option<f64>,
    pub round_trip_workgroups: Option<u64>,
}

/// What was measured of a case; nothing but `note` if it failed or did not run.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub ms_median: Option<f64>,
    pub ms_median_spread: Option<f64>,
    pub ms_min: Option<f64>,
    pub first_ms: Option<f64>,
    pub gpu_ms_median: Option<f64>,
    pub runs: Option<u64>,
    pub strategy: Option<String>,
    pub dispatches: Option<u64>,
    pub gflops: Option<f64>,
    pub roofline_fraction: Option<f64>,
    pub launch_fraction: Option<f64>,
    pub bound_by: Option<String>,
    pub bound_fraction: Option<f64>,
    /// Why its times are to be doubted, as the report names it.
    pub marks: Vec<String>,
    pub us_per_step_p99: Option<f64>,
    pub verified: bool,
    pub max_rel_err: Option<f64>,
    /// Whether the FLOPs are those of the recurrence alone.
    pub recurrence: bool,
    pub note: Option<String>,
    /// What one run computes and what it has to move.
    pub flops: Option<f64>,
    pub bytes: Option<f64>,
}

/// The newest schema that this reads.
const SCHEMA: u64 = 1;

/// All reports of a file: one, or those that stand in its list `runs`.
pub fn recorded(value: &Value) -> Result<Vec<Recorded>> {
    let file = Fields::new("", value)?;
    match file.list("runs")? {
        Some(runs) => {
            let report = |(index, run): (usize, &Value)| report(&format!("runs[{index}]"), run);
            runs.iter().enumerate().map(report).collect()
        }
        None => Ok(vec![report("", value)?]),
    }
}

fn report(place: &str, value: &Value) -> Result<Recorded> {
    let fields = Fields::new(place, value)?;
    let Some(results) = fields.list("results")? else {
        let what = if place.is_empty() { "a report" } else { place };
        return Err(format!("`results`: missing, so this is no report of `tidegate bench --json`, see {what}").into());
    };
    match fields.whole("schema")? {
        Some(schema) if schema > SCHEMA => {
            return Err(format!("`schema`: this tidegate reads up to {SCHEMA}, found {schema}").into());
        }
        _ => (),
    }
    let within = |list: &str, index: usize| match place {
        "" => format!("{list}[{index}]"),
        place => format!("{place}.{list}[{index}]"),
    };
    let mut all = Vec::new();
    for (index, entry) in results.iter().enumerate() {
        let here = within("results", index);
        let entry = Fields::new(&here, entry)?;
        let (place, case) = (Place::read(entry)?, Case::read(entry)?);
        let row = Row::read(entry, &case, &place.dtype)?;
        all.push((place, case, row));
    }
    let mut peaks = Vec::new();
    for (index, entry) in fields.list("rooflines")?.unwrap_or_default().iter().enumerate() {
        let here = within("rooflines", index);
        let entry = Fields::new(&here, entry)?;
        peaks.push((Place::read(entry)?, Peaks::read(entry)?));
    }
    let program = fields.text("peer")?.unwrap_or("tidegate").into();
    Ok(Recorded { program, host: Host::read(fields, place)?, results: all, peaks })
}

impl Place {
    fn read(entry: Fields<'_>) -> Result<Self> {
        let text = |name| Ok::<_, crate::Failure>(entry.text(name)?.unwrap_or_default().to_string());
        Ok(Self {
            device: entry.required("device", entry.text("device")?)?.into(),
            backend: text("backend")?,
            driver: text("driver")?,
            api_version: entry.text("api_version")?.map(str::to_string),
            device_type: text("device_type")?,
            dtype: entry.text("dtype")?.unwrap_or("f32").into(),
            untuned: entry.flag("untuned")?.unwrap_or(false),
        })
    }

    /// Whether both are the same, whatever they stored.
    pub fn is_device(&self, other: &Self) -> bool {
        (&self.device, &self.backend, &self.driver) == (&other.device, &other.backend, &other.driver)
    }
}

impl Host {
    fn read(report: Fields<'_>, place: &str) -> Result<Self> {
        let version = |value: &Value| value.as_str().map(str::to_string);
        let versions = report.object("versions")?.and_then(Value::as_object).into_iter().flatten();
        let versions = versions.filter_map(|(name, value)| Some(format!("{name} {}", version(value)?)));
        let own = report.text("tidegate_version")?.map(|version| format!("tidegate {version}"));
        let version = own.into_iter().chain(versions).collect::<Vec<_>>().join(", ");
        let (commit, unix_time) = (report.text("commit")?.map(str::to_string), report.whole("unix_time")?);
        let Some(host) = report.object("host")? else { return Ok(Self { version, commit, unix_time, ..Self::default() }) };
        let here = if place.is_empty() { "host".into() } else { format!("{place}.host") };
        let host = Fields::new(&here, host)?;
        let text = |name| Ok::<_, crate::Failure>(host.text(name)?.map(str::to_string));
        Ok(Self {
            os: text("os")?,
            arch: text("arch")?,
            cpu: text("cpu")?,
            cpus: host.whole("cpus")?,
            load_average: host.number("load_average")?,
            version,
            commit,
            unix_time,
        })
    }
}

impl Peaks {
    fn read(entry: Fields<'_>) -> Result<Self> {
        Ok(Self {
            peak_gflops: entry.positive("peak_gflops")?,
            peak_gflops_f16: entry.number("peak_gflops_f16")?,
            peak_gflops_cooperative: entry.number("peak_gflops_cooperative")?,
            peak_gbytes: entry.positive("peak_gbytes")?,
            peak_gbytes_read: entry.number("peak_gbytes_read")?,
            peak_gbytes_write: entry.number("peak_gbytes_write")?,
            load_latency_ns: entry.number("load_latency_ns")?,
            cached_load_latency_ns: entry.number("cached_load_latency_ns")?,
            submit_us: entry.number("submit_us")?,
            dispatch_us: entry.number("dispatch_us")?,
            round_trip_us: entry.number("round_trip_us")?,
            round_trip_workgroups: entry.whole("round_trip_workgroups")?,
        })
    }
}

impl Row {
    fn read(entry: Fields<'_>, case: &Case, dtype: &str) -> Result<Self> {
        let (ms_median, gflops) = (entry.positive("ms_median")?, entry.positive("gflops")?);
        let recurrence = entry.flag("includes_input")? == Some(false);
        // For a recurrence alone and for bulk products it is not the case's.
        let flops = gflops.zip(ms_median).map(|(gflops, ms)| gflops * ms * 1e6).or_else(|| case.flops());
        Ok(Self {
            ms_median,
            ms_median_spread: entry.number("ms_median_spread")?,
            ms_min: entry.positive("ms_min")?,
            first_ms: entry.number("first_ms")?,
            gpu_ms_median: entry.positive("gpu_ms_median")?,
            runs: entry.whole("runs")?,
            strategy: entry.text("strategy")?.map(str::to_string),
            dispatches: entry.whole("dispatches")?,
            gflops,
            roofline_fraction: entry.number("roofline_fraction")?,
            launch_fraction: entry.number("launch_fraction")?,
            bound_by: entry.text("bound_by")?.map(str::to_string),
            bound_fraction: entry.number("bound_fraction")?,
            marks: entry.list("marks")?.unwrap_or_default().iter().filter_map(|mark| Some(mark.as_str()?.into())).collect(),
            us_per_step_p99: entry.positive("us_per_step_p99")?,
            verified: entry.flag("verified")?.unwrap_or(false),
            max_rel_err: entry.number("max_rel_err")?,
            recurrence,
            note: entry.text("note")?.or(entry.text("error")?).map(str::to_string),
            flops,
            bytes: case.bytes(dtype),
        })
    }
}
