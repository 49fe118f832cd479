//! What `bench` found: a table for people, JSON for programs.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table, TableComponent};
use serde::Serialize;
use tidegate::Strategy;

use crate::bench::Measured;
use crate::device::Description;
use crate::suite::Workload;

/// The JSON file. Fields may be added; none goes away or changes its meaning without a new `schema`.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: u32,
    tidegate_version: &'static str,
    host: Host,
    pub results: Vec<Entry>,
}

impl Report {
    pub fn new() -> Self {
        Self { schema: 1, tidegate_version: env!("CARGO_PKG_VERSION"), host: Host::new(), results: Vec::new() }
    }
}

#[derive(Debug, Serialize)]
struct Host {
    os: &'static str,
    arch: &'static str,
    cpus: usize,
    cpu: Option<String>,
}

impl Host {
    fn new() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { os: std::env::consts::OS, arch: std::env::consts::ARCH, cpus, cpu: cpu_name() }
    }
}

/// The processor's own name, on Linux.
fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().into())
}

/// One workload on one device. What was not measured is null.
#[derive(Debug, Serialize)]
pub struct Entry {
    #[serde(flatten)]
    description: Description,
    cell: String,
    mode: &'static str,
    #[serde(rename = "I")]
    input_size: usize,
    #[serde(rename = "H")]
    hidden_size: usize,
    #[serde(rename = "L")]
    num_layers: usize,
    #[serde(rename = "D")]
    num_directions: usize,
    #[serde(rename = "T")]
    seq_len: usize,
    #[serde(rename = "B")]
    batch_size: usize,
    dtype: &'static str,
    strategy: &'static str,
    dispatches: Option<usize>,
    /// Whether time and FLOPs include the input product.
    includes_input: bool,
    ms_median: Option<f64>,
    ms_min: Option<f64>,
    /// Of the GPU alone, by its own clock.
    gpu_ms_median: Option<f64>,
    runs: usize,
    gflops: Option<f64>,
    roofline_fraction: Option<f64>,
    verified: bool,
    #[serde(rename = "verified_T")]
    verified_seq_len: Option<usize>,
    #[serde(rename = "verified_B")]
    verified_batch_size: Option<usize>,
    /// The largest relative L2 error of any tensor.
    max_rel_err: Option<f64>,
    /// For the table.
    #[serde(skip)]
    first: Option<f64>,
    #[serde(skip)]
    spread: Option<f64>,
}

impl Entry {
    pub fn new(description: &Description, workload: &Workload, strategy: Strategy, measured: Option<Measured>) -> Self {
        let Workload { cell, config, shape, .. } = workload;
        let measured = measured.as_ref();
        Self {
            cell: cell.name().into(),
            mode: workload.mode_name(),
            input_size: config.input_size,
            hidden_size: config.hidden_size,
            num_layers: config.num_layers,
            num_directions: config.num_directions(),
            seq_len: shape.seq_len,
            batch_size: shape.batch_size,
            dtype: if description.device_type == "cpu-reference" { "f64" } else { "f32" },
            strategy: measured.map_or(strategy.name(), |m| m.strategy),
            dispatches: measured.map(|m| m.dispatches),
            includes_input: true,
            ms_median: measured.map(|m| m.times.median()),
            ms_min: measured.map(|m| m.times.min()),
            gpu_ms_median: measured.and_then(|m| Some(m.gpu_times.as_ref()?.median())),
            runs: measured.map_or(0, |m| m.times.runs()),
            gflops: measured.map(|m| workload.flops() / m.times.median() * 1e-6),
            roofline_fraction: None,
            verified: measured.is_some(),
            verified_seq_len: measured.map(|m| m.verified.shape.seq_len),
            verified_batch_size: measured.map(|m| m.verified.shape.batch_size),
            max_rel_err: measured.map(|m| m.verified.max_rel_err),
            first: measured.map(|m| m.first),
            spread: measured.map(|m| m.times.spread()),
            description: description.clone(),
        }
    }

    fn network(&self) -> String {
        let mut network = format!("{} {}→{}", self.cell, self.input_size, self.hidden_size);
        if self.num_layers > 1 {
            network += &format!(" ×{}", self.num_layers);
        }
        if self.num_directions > 1 {
            network += " both ways";
        }
        network
    }

    /// The error, with the shape at which it was found if that is not the whole.
    fn verification(&self) -> String {
        match (self.max_rel_err, self.verified_seq_len, self.verified_batch_size) {
            _ if !self.verified => "FAILED".into(),
            _ if self.description.device_type == "cpu-reference" => "-".into(),
            (Some(error), Some(t), Some(b)) if (t, b) == (self.seq_len, self.batch_size) => format!("{error:.1e}"),
            (Some(error), Some(t), Some(b)) => format!("{error:.1e} at T={t} B={b}"),
            _ => "-".into(),
        }
    }

    fn row(&self) -> [String; COLUMNS.len()] {
        let number = |value: Option<f64>| value.map_or("-".into(), short);
        [
            self.network(),
            self.seq_len.to_string(),
            self.batch_size.to_string(),
            self.mode.into(),
            number(self.first),
            number(self.ms_median),
            self.spread.map_or("-".into(), |spread| format!("{:.1} %", spread * 100.0)),
            number(self.ms_min),
            number(self.gpu_ms_median),
            number(self.gflops),
            self.dispatches.map_or("-".into(), |dispatches| dispatches.to_string()),
            self.runs.to_string(),
            self.verification(),
        ]
    }
}

/// `first` is the first run, with building pipelines; `±` half the 95 % confidence interval of the median.
const COLUMNS: [&str; 13] =
    ["network", "T", "B", "mode", "first ms", "median ms", "±", "min ms", "GPU ms", "GFLOP/s", "dispatches", "runs", "error"];

/// Three digits.
fn short(value: f64) -> String {
    let digits = 2 - value.abs().log10().floor().clamp(-3.0, 2.0) as i32;
    format!("{value:.*}", digits as usize)
}

/// All results of one device, under its name.
pub fn table(description: &Description, entries: &[Entry]) -> String {
    let Description { device, backend, driver, device_type } = description;
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(COLUMNS);
    for line in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(line);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_rows(entries.iter().map(Entry::row));
    format!("{device} ({device_type}, {backend}, {driver})\n{table}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        let cases =
            [(0.0001234, "0.00012"), (0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346")];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }
}
