//! `tidegate bench`: every workload on every device, verified, then timed.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use tidegate::cell::by_name;
use tidegate::{Context, Mode, RnnConfig, SeqShape, Strategy};

use crate::device::{self, Device};
use crate::report::{Entry, Report, table};
use crate::suite::{Suite, Workload};
use crate::timing::{self, GpuRun, RunData, Times, milliseconds};
use crate::verify::{Verified, verify};
use crate::{Result, complain, files, print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Workloads to run [default: quick, unless --cell describes one]
    #[arg(long, conflicts_with = "cell")]
    suite: Option<Suite>,
    /// `all` adapters, `cpu`, or the number or a part of the name of an adapter (see `tidegate devices`)
    #[arg(long, default_value = "all")]
    device: String,
    /// How the recurrence becomes dispatches: auto, stepwise or resident
    #[arg(long, default_value = "auto")]
    strategy: Strategy,
    /// Also write the results as JSON
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
            return Ok(self.suite.unwrap_or(Suite::Quick).workloads()?);
        };
        let modes = match self.mode {
            None => vec![Mode::Inference, Mode::Training],
            Some(ModeName::Infer) => vec![Mode::Inference],
            Some(ModeName::Train) => vec![Mode::Training],
        };
        let config = RnnConfig::new(input, hidden).with_num_layers(self.layers.into()).with_bidirectional(self.bidirectional);
        let (cell, shape) = (by_name(cell)?, SeqShape { seq_len, batch_size });
        Ok(modes.into_iter().map(|mode| Workload { cell: cell.clone(), config: config.clone(), shape, mode }).collect())
    }

    /// The devices to measure, and how many adapters did not open: one broken driver shall not keep the others from running.
    fn devices(&self) -> Result<(Vec<Device>, usize)> {
        if self.device != "all" {
            return Ok((vec![device::select(Some(&self.device))?], 0));
        }
        let adapters = device::adapters();
        if adapters.is_empty() {
            complain(device::GET_ADAPTER);
            return Ok((vec![Device::Cpu], 0));
        }
        let mut devices = Vec::new();
        for adapter in &adapters {
            match device::open(adapter) {
                Ok(device) => devices.push(device),
                Err(error) => complain(&format!("{}: {error}", adapter.get_info().name)),
            }
        }
        let unopened = adapters.len() - devices.len();
        Ok((devices, unopened))
    }
}

/// What was measured of a workload that ran and was right.
#[derive(Debug)]
pub struct Measured {
    pub strategy: &'static str,
    pub dispatches: usize,
    /// Milliseconds of the first run, with the building of whatever pipelines no earlier workload had built.
    pub first: f64,
    pub times: Times,
    pub gpu_times: Option<Times>,
    pub verified: Verified,
}

pub fn run(args: &Args) -> Result<()> {
    let workloads = args.workloads()?;
    let (devices, unopened) = args.devices()?;
    // It draws itself on stderr, and only if that is a terminal.
    let progress = ProgressBar::new((workloads.len() * devices.len()) as u64);
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left: {msg}")?);
    let mut report = Report::new();
    let mut failed = 0;
    for device in &devices {
        let description = device.description();
        let mut entries = Vec::new();
        for workload in &workloads {
            progress.set_message(format!("{}, {workload}", description.device));
            progress.tick();
            let measured = match device {
                Device::Cpu => on_cpu(workload),
                Device::Gpu(ctx) => on_gpu(ctx, workload, args.strategy),
            };
            if let Err(failure) = &measured {
                failed += 1;
                progress.suspend(|| complain(&format!("{}, {workload}: {failure}", description.device)));
            }
            entries.push(Entry::new(&description, workload, args.strategy, measured.ok()));
            progress.inc(1);
        }
        progress.suspend(|| print(&table(&description, &entries)))?;
        report.results.extend(entries);
    }
    progress.finish_and_clear();
    if let Some(path) = &args.json {
        files::write(path, format!("{}\n", serde_json::to_string_pretty(&report)?).as_bytes())?;
    }
    match (failed, unopened) {
        (0, 0) => Ok(()),
        (0, _) => Err(format!("{unopened} adapters did not open").into()),
        _ => Err(format!("{failed} of {} workloads failed", report.results.len()).into()),
    }
}

fn on_gpu(ctx: &Context, workload: &Workload, strategy: Strategy) -> Result<Measured> {
    let start = Instant::now();
    timing::plan(ctx, workload, strategy)?;
    let built = milliseconds(start);
    let data = RunData::new(workload)?;
    let run = GpuRun::new(ctx, workload, strategy, &data)?;
    let start = Instant::now();
    run.run()?;
    let first = built + milliseconds(start);
    let verified = verify(ctx, workload, &run, &data)?;
    let times = Times::measure(|| run.run())?;
    let gpu_times = run.gpu_times()?;
    Ok(Measured { strategy: run.strategy().name(), dispatches: run.dispatches(), first, times, gpu_times, verified })
}

/// The reference has nothing to be held against: it is what the others are held against.
fn on_cpu(workload: &Workload) -> Result<Measured> {
    timing::check_cpu(workload)?;
    let run = RunData::new(workload)?.on_cpu(workload);
    let start = Instant::now();
    run.run()?;
    let first = milliseconds(start);
    let times = Times::measure(|| run.run().map(|_| ()))?;
    let verified = Verified { shape: workload.shape, max_rel_err: 0.0 };
    Ok(Measured { strategy: "reference", dispatches: 0, first, times, gpu_times: None, verified })
}
