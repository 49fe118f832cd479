//! `tidegate bench`: every workload on every device, verified, then timed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use tidegate::cell::by_name;
use tidegate::{Dtype, Mode, RnnConfig, SeqShape, Strategy, Tile};

use crate::device::{self, Description, Device};
use crate::measure::{OnGpu, on_cpu};
use crate::report::{Entry, Peaks, Report};
use crate::roofline::Roofline;
use crate::scaling::{self, Series};
use crate::suite::Suite;
use crate::table::table;
use crate::timing::Products;
use crate::workload::{Kind, Workload};
use crate::{Result, complain, files, print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Workloads to run [default: quick, unless --cell describes one]
    #[arg(long, conflicts_with = "cell")]
    suite: Option<Suite>,
    /// Of the suite, the workloads alone whose line in --list contains this
    #[arg(long, value_name = "TEXT", conflicts_with = "cell")]
    filter: Option<String>,
    /// Print the workloads and their GFLOP a run, and run none
    #[arg(long)]
    list: bool,
    /// Start no workload after these
    #[arg(long, value_name = "SECONDS")]
    budget: Option<u64>,
    /// `all` adapters, `cpu`, or the number or a part of the name of an adapter (see `tidegate devices`)
    #[arg(long, default_value = "all")]
    device: String,
    /// How GPUs store parameters, input and output, and the gradients of both: f32 or f16
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// How the recurrence becomes dispatches: auto, stepwise, batched, resident or persistent
    #[arg(long, default_value = "auto")]
    strategy: Strategy,
    /// Tile of bulk products, instead of what is fastest or fits: 32x32, 64x64, 128x64 or 128x128
    #[arg(long)]
    tile: Option<Tile>,
    /// Products of f16 by cooperative matrices, in all but single steps of few rows and the strategies of one dispatch; where the
    /// adapter has them. wgpu calls that experimental, and tidegate's kernels for it wait for their first device
    #[arg(long)]
    cooperative: bool,
    /// Also write the results as JSON, anew after every workload
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Cell of a workload of your own: lstm, gru, gru_reset_before, rnn_tanh, rnn_relu, rnn_linear, binary_gate
    #[arg(long, requires_all = ["input", "hidden", "seq", "batch"])]
    cell: Option<String>,
    /// Features of a step
    #[arg(long, value_name = "I", requires = "cell")]
    input: Option<usize>,
    /// Units of each layer and direction
    #[arg(long, value_name = "H", requires = "cell")]
    hidden: Option<usize>,
    /// Layers
    #[arg(long, value_name = "L", requires = "cell", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    layers: u16,
    /// Both directions
    #[arg(long, requires = "cell")]
    bidirectional: bool,
    /// Steps
    #[arg(long, value_name = "T", requires = "cell")]
    seq: Option<usize>,
    /// Sequences
    #[arg(long, value_name = "B", requires = "cell")]
    batch: Option<usize>,
    /// infer: forward; train: forward and backward [default: both]
    #[arg(long, requires = "cell")]
    mode: Option<ModeName>,
    /// Time chunks of T steps that go on from each other, forward; the state stays on the GPU
    #[arg(long, requires = "cell", conflicts_with_all = ["mode", "bidirectional"])]
    stream: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeName {
    Infer,
    Train,
}

impl Args {
    fn workloads(&self) -> Result<Vec<Workload>> {
        let (Some(cell), Some(input), Some(hidden), Some(seq_len), Some(batch_size)) =
            (&self.cell, self.input, self.hidden, self.seq, self.batch)
        else {
            let mut workloads = self.suite.unwrap_or(Suite::Quick).workloads()?;
            if let Some(filter) = &self.filter {
                workloads.retain(|workload| workload.to_string().contains(filter));
                if workloads.is_empty() {
                    return Err(format!("--filter: no workload of the suite contains {filter:?}, see --list").into());
                }
            }
            workloads.iter_mut().for_each(|workload| workload.dtype = self.dtype);
            return Ok(workloads);
        };
        let modes = match self.mode {
            _ if self.stream => vec![Mode::Inference],
            None => vec![Mode::Inference, Mode::Training],
            Some(ModeName::Infer) => vec![Mode::Inference],
            Some(ModeName::Train) => vec![Mode::Training],
        };
        let config = RnnConfig::new(input, hidden).with_num_layers(self.layers.into()).with_bidirectional(self.bidirectional);
        let (cell, shape) = (by_name(cell)?, SeqShape { seq_len, batch_size });
        let kind = if self.stream { Kind::Stream } else { Kind::Throughput };
        Ok(modes
            .into_iter()
            .map(|mode| Workload { cell: cell.clone(), config: config.clone(), shape, mode, kind, dtype: self.dtype })
            .collect())
    }

    /// The suite, unless `--cell` describes a workload.
    fn suite(&self) -> Option<Suite> {
        if self.cell.is_some() { None } else { Some(self.suite.unwrap_or(Suite::Quick)) }
    }

    fn write(&self, report: &Report) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        files::write(path, format!("{}\n", serde_json::to_string_pretty(report)?).as_bytes())
    }

    /// The devices to measure, and how many adapters did not open: one broken driver shall not keep the others from running.
    fn devices(&self) -> Result<(Vec<Device>, usize)> {
        if self.device != "all" {
            return Ok((vec![device::select(Some(&self.device), self.cooperative)?], 0));
        }
        let adapters = device::adapters();
        if adapters.is_empty() {
            complain(device::GET_ADAPTER);
            return Ok((vec![Device::Cpu], 0));
        }
        let mut devices = Vec::new();
        for adapter in &adapters {
            match device::open(adapter, self.cooperative) {
                Ok(device) => devices.push(device),
                Err(error) => complain(&format!("{}: {error}", adapter.get_info().name)),
            }
        }
        let unopened = adapters.len() - devices.len();
        Ok((devices, unopened))
    }
}

pub fn run(args: &Args) -> Result<()> {
    let workloads = args.workloads()?;
    if args.list {
        let line = |workload: &Workload| format!("{workload}: {:.3} GFLOP\n", workload.flops() * 1e-9);
        return print(&workloads.iter().map(line).collect::<String>());
    }
    let start = Instant::now();
    let in_time = || args.budget.is_none_or(|seconds| start.elapsed() < Duration::from_secs(seconds));
    let (devices, unopened) = args.devices()?;
    // It draws itself on stderr, and only if that is a terminal.
    let progress = ProgressBar::new((workloads.len() * devices.len()) as u64);
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left: {msg}")?);
    let mut report = Report::new();
    let mut failed = 0;
    for device in &devices {
        let description = device.description();
        let most_flops = args.suite().filter(|_| device.runs_on_cpu()).map_or(f64::INFINITY, Suite::most_flops_on_cpu);
        let (runnable, left_out): (Vec<&Workload>, Vec<&Workload>) = workloads.iter().partition(|w| w.flops() <= most_flops);
        progress.inc(left_out.len() as u64);
        let mut on_gpu = match device {
            Device::Cpu => None,
            Device::Gpu(ctx) => Some(OnGpu::new(ctx, args.strategy, Products { tile: args.tile, cooperative: args.cooperative })),
        };
        let roofline = match device {
            Device::Cpu => None,
            Device::Gpu(ctx) => match Roofline::measure(ctx) {
                Ok(roofline) => Some(roofline),
                Err(error) => {
                    progress.suspend(|| complain(&format!("{}, peaks: {error}", description.device)));
                    None
                }
            },
        };
        let first = report.results.len();
        for &workload in runnable.iter().take_while(|_| in_time()) {
            progress.set_message(format!("{}, {workload}", description.device));
            progress.tick();
            let measured = on_gpu.as_mut().map_or_else(|| on_cpu(workload), |on_gpu| on_gpu.measure(workload));
            if let Err(failure) = &measured {
                failed += 1;
                progress.suspend(|| complain(&format!("{}, {workload}: {failure}", description.device)));
            }
            report.results.push(Entry::new(&description, workload, args.strategy, measured.ok(), roofline.as_ref()));
            args.write(&report)?;
            progress.inc(1);
        }
        let entries = &report.results[first..];
        let mut text = table(&description, entries);
        if let Some(roofline) = roofline {
            text += &roofline.line();
            report.rooflines.push(Peaks { description: description.clone(), roofline });
        }
        text += &list("too many FLOPs for a CPU", &left_out, workloads.len());
        text += &list("out of time", &runnable[entries.len()..], workloads.len());
        if args.suite() == Some(Suite::Scaling) {
            let series = series(&description, &runnable, entries);
            text.extend(series.iter().map(|series| series.line() + "\n"));
            report.scaling.extend(series);
        }
        progress.suspend(|| print(&text))?;
    }
    progress.finish_and_clear();
    args.write(&report)?;
    match (failed, unopened) {
        (0, 0) => Ok(()),
        (0, _) => Err(format!("{unopened} adapters did not open").into()),
        _ => Err(format!("{failed} of {} workloads failed", report.results.len()).into()),
    }
}

/// Names some of what did not run, and says how many there are.
fn list(why: &str, workloads: &[&Workload], of: usize) -> String {
    const NAMED: usize = 10;
    if workloads.is_empty() {
        return String::new();
    }
    let line = |workload: &&Workload| format!("  {workload}, {:.0} GFLOP a run\n", workload.flops() * 1e-9);
    let named: String = workloads.iter().take(NAMED).map(line).collect();
    let others = workloads.len().saturating_sub(NAMED);
    let others = if others > 0 { format!("  and {others} others\n") } else { String::new() };
    format!("left out, {why}: {} of {of}\n{named}{others}", workloads.len())
}

fn series(description: &Description, workloads: &[&Workload], entries: &[Entry]) -> Vec<Series> {
    let ran = workloads.iter().zip(entries).filter_map(|(&workload, entry)| Some((workload, entry.ms_median?, entry.strategy)));
    scaling::series(description, &ran.collect::<Vec<_>>())
}
