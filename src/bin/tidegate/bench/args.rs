//! The command line of `tidegate bench`.

use std::path::PathBuf;

use clap::ValueEnum;
use tidegate::bench::{Kind, Products, Suite, Workload};
use tidegate::cell::by_name;
use tidegate::{Dtype, Mode, RnnConfig, SeqShape, Strategy, Tile};

use crate::args::cell_help;
use crate::args::device::{self, Device};
use crate::args::exit;
use crate::compare::Tolerance;
use crate::{Result, complain};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Workloads to run [default: quick, unless --cell describes one]
    #[arg(long, conflicts_with = "cell")]
    suite: Option<Suite>,
    /// Run only the workloads of the suite whose line in --list contains this
    #[arg(long, value_name = "TEXT", conflicts_with = "cell")]
    filter: Option<String>,
    /// Print the workloads and their GFLOP a run, and run none
    #[arg(long)]
    pub list: bool,
    /// Start no new workload after this many seconds; each device gets an equal share of what is left
    #[arg(long, value_name = "SECONDS")]
    pub budget: Option<u64>,
    /// `all` adapters, `cpu`, or the number or a part of the name of an adapter (see `tidegate devices`); may be given several times
    /// [default: all adapters, and after them the CPU for a suite]
    #[arg(long)]
    device: Vec<String>,
    /// How GPUs store parameters, input and output, and the gradients of both: f32 or f16 [default: f32; suite recurrence both]
    #[arg(long)]
    dtype: Option<Dtype>,
    /// How the recurrence becomes dispatches: auto, stepwise, batched, resident or persistent
    #[arg(long, default_value = "auto")]
    pub strategy: Strategy,
    /// Which strategy and tiles auto takes on a GPU: what tuning finds on the device and keeps, the library's own table without it, or one
    /// after the other [default: on; suite recurrence both]
    #[arg(long, value_name = "WHICH")]
    tuning: Option<TuningRuns>,
    /// Keep the time of every run in the JSON file
    #[arg(long, requires = "json")]
    pub all_runs: bool,
    /// Also time every dispatch of a run on the GPU, in a compute pass of its own, and list them below each row; the JSON file has them too
    #[arg(long)]
    pub profile: bool,
    /// Leave out the device's peaks and costs, which take some seconds, and what is told in parts of them
    #[arg(long)]
    pub no_peaks: bool,
    /// Show every column, wider than 80
    #[arg(long)]
    pub wide: bool,
    /// Also print what tuning tried for each row
    #[arg(short, long)]
    pub verbose: bool,
    /// Tile of bulk products, instead of what is fastest or fits: 32x32, 64x64, 128x64 or 128x128
    #[arg(long)]
    tile: Option<Tile>,
    /// Products of f16 by cooperative matrices, strategy persistent's steps among them, but not single steps of few rows; where
    /// the adapter has them. wgpu calls that experimental; an H200 alone has run it
    #[arg(long)]
    cooperative: bool,
    /// Numbers of strategy persistent's layout, such as `units=8 along=4`
    #[arg(long, hide = true)]
    layout: Option<String>,
    /// Also write the results as JSON, anew after every workload
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write them as a page: one file that needs no network, with charts and tables to sort
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// End with status 3 where a median is slower than in this file of an earlier --json, of the same device and case
    #[arg(long, value_name = "FILE")]
    pub fail_if_slower_than: Option<PathBuf>,
    /// How much slower is no failure: 10% or 0.1
    #[arg(long, value_name = "PART", default_value = "10%", requires = "fail_if_slower_than")]
    pub tolerance: Tolerance,
    #[arg(long, help = cell_help("Cell of a workload of your own"), requires_all = ["input", "hidden", "seq", "batch"])]
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
enum TuningRuns {
    On,
    Off,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeName {
    Infer,
    Train,
}

impl Args {
    pub fn workloads(&self) -> Result<Vec<Workload>> {
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
            // Some suites have rows of both.
            if let Some(dtype) = self.dtype {
                if workloads.iter().any(|workload| workload.dtype != Dtype::F32) {
                    workloads.retain(|workload| workload.dtype == dtype);
                }
                workloads.iter_mut().for_each(|workload| workload.dtype = dtype);
            }
            return Ok(workloads);
        };
        let modes = match self.mode {
            _ if self.stream => vec![Mode::Inference],
            None => vec![Mode::Inference, Mode::Training],
            Some(ModeName::Infer) => vec![Mode::Inference],
            Some(ModeName::Train) => vec![Mode::Training],
        };
        let config = RnnConfig::new(input, hidden).with_num_layers(self.layers.into()).with_bidirectional(self.bidirectional);
        let cell = by_name(cell).map_err(|error| exit::usage(error.to_string()))?;
        let shape = SeqShape { seq_len, batch_size };
        // What means nothing on any device; what is too much for one says so there.
        config.validate().and_then(|()| shape.validate()).map_err(|error| exit::usage(error.to_string()))?;
        let dtype = self.dtype.unwrap_or_default();
        let kind = if self.stream { Kind::Stream } else { Kind::Throughput };
        Ok(modes
            .into_iter()
            .map(|mode| Workload { cell: cell.clone(), config: config.clone(), shape, mode, kind, dtype })
            .collect())
    }

    /// The suite, unless `--cell` describes a workload.
    pub fn suite(&self) -> Option<Suite> {
        if self.cell.is_some() { None } else { Some(self.suite.unwrap_or(Suite::Quick)) }
    }

    /// How often each workload runs on a GPU that tunes: without tuning, with it, or both.
    pub fn tuned(&self) -> &'static [bool] {
        let both = self.suite().is_some_and(Suite::runs_untuned_too);
        match self.tuning {
            Some(TuningRuns::On) => &[true],
            Some(TuningRuns::Off) => &[false],
            Some(TuningRuns::Both) => &[false, true],
            None if both => &[false, true],
            None => &[true],
        }
    }

    /// Which kernels make the bulk products.
    pub fn products(&self) -> Products {
        // For as long as the command runs.
        let layout = self.layout.as_ref().map(|text| &*text.clone().leak());
        Products { tile: self.tile, cooperative: self.cooperative, layout }
    }

    /// The devices to measure, and how many adapters did not open: one broken driver shall not keep the others from running.
    pub fn devices(&self) -> Result<(Vec<Device>, usize)> {
        let defaults = if self.cell.is_some() { &["all"][..] } else { &["all", "cpu"] };
        let given: Vec<&str> = self.device.iter().map(String::as_str).collect();
        let wanted = if given.is_empty() { defaults } else { &given };
        let (mut devices, mut unopened) = (Vec::new(), 0);
        for &name in wanted {
            if name != "all" {
                devices.push(device::select(Some(name), self.cooperative)?);
                continue;
            }
            let adapters = device::adapters();
            if adapters.is_empty() {
                complain(device::GET_ADAPTER);
                return Ok((vec![Device::Cpu], 0));
            }
            for adapter in &adapters {
                match device::open(adapter, self.cooperative) {
                    Ok(device) => devices.push(device),
                    Err(error) => {
                        complain(&format!("{}: {error}", adapter.get_info().name));
                        unopened += 1;
                    }
                }
            }
        }
        Ok((devices, unopened))
    }
}
