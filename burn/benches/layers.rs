//! Burn's recurrent layers and tidegate's, on one device of Burn's in one process, at the shapes of `tidegate bench --suite quick` and, on
//! a GPU, at larger ones.
//!
//!     cargo bench                      # all
//!     cargo bench -- "lstm 64" train   # cases whose names hold all of these
//!     cargo bench -- --budget 120      # no case begins after 120 seconds
//!     cargo bench -- --json FILE       # the same as JSON, written anew after each case
//!
//! A run is a forward from zeros, in training with gradients of input and weights, and the wait for the device. The two run by turns; times
//! are medians, and the ratio is the median of the rounds' ratios, so that what else the machine does falls on both; in brackets its quartiles.

#![expect(clippy::large_enum_variant, reason = "there are few of them")]

use std::any::Any;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn;
use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn::tensor::{Device, Distribution, Tensor};
use serde_json::{Value, json};
use tidegate::Mode;
use tidegate::bench::{Suite, Workload};

/// In the first runs Burn builds and tunes its kernels and fusion sees the graph. The GPU waits meanwhile, so its clock may fall.
const FIRST_RUNS: usize = 3;
/// Then a GPU works for so long, which raises its clock, and until no median of a block of runs falls any more.
const WARM_UP: Duration = Duration::from_secs(1);
const WARM_UP_AT_MOST: Duration = Duration::from_secs(4);
const BLOCK: Duration = Duration::from_millis(250);
const MEASURED: (usize, Duration) = (9, Duration::from_secs(2));
/// More is wrong: f32 explains less.
const ERROR_AT_MOST: f64 = 1e-4;

const USAGE: &str = "usage: bench [--budget SECONDS] [--json FILE] [PART OF A CASE'S NAME]..";

struct Options {
    parts: Vec<String>,
    budget: Duration,
    json: Option<PathBuf>,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { parts: Vec::new(), budget: Duration::MAX, json: None };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                // Of cargo's own.
                "--bench" => {}
                "--budget" => {
                    let seconds = value()?;
                    let budget = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    options.budget = budget.ok_or(format!("--budget is a number of seconds, not {seconds}"))?;
                }
                "--json" => options.json = Some(value()?.into()),
                option if option.starts_with('-') => return Err(format!("{option} is no option here\n{USAGE}")),
                _ => options.parts.push(arg),
            }
        }
        Ok(options)
    }
}

struct Case {
    cell: String,
    size: usize,
    layers: usize,
    steps: usize,
    batch: usize,
    train: bool,
}

impl From<Workload> for Case {
    fn from(workload: Workload) -> Self {
        let Workload { cell, config, shape, mode, .. } = workload;
        let (size, layers) = (config.hidden_size, config.num_layers);
        Self {
            cell: cell.name().into(),
            size,
            layers,
            steps: shape.seq_len,
            batch: shape.batch_size,
            train: mode == Mode::Training,
        }
    }
}

impl Case {
    fn name(&self) -> String {
        let Self { cell, size, layers, steps, batch, .. } = self;
        let layers = if *layers > 1 { format!(", L {layers}") } else { String::new() };
        format!("{cell} {size}{layers}, T {steps}, B {batch}, {}", if self.train { "train" } else { "infer" })
    }
}

/// Those that tell most come first: of a single row little but launches is measured.
fn cases(is_gpu: bool) -> tidegate::Result<Vec<Case>> {
    let mut cases: Vec<Case> = Suite::Quick.workloads()?.into_iter().map(Case::from).collect();
    cases.sort_by_key(|case| case.batch == 1);
    if is_gpu {
        let larger =
            |size| [false, true].map(|train| Case { cell: "lstm".into(), size, layers: 1, steps: 128, batch: 32, train });
        cases.extend([256, 512].into_iter().flat_map(larger));
    }
    Ok(cases)
}

/// Layers of Burn's, one on the other, and what maps an input to an output.
#[derive(Module, Debug)]
enum Layer {
    Lstm(nn::Lstm),
    Gru(nn::Gru),
    Rnn(nn::Rnn),
}

impl Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Lstm(layer) => layer.forward(x, None).0,
            Self::Gru(layer) => layer.forward(x, None),
            Self::Rnn(layer) => layer.forward(x, None).0,
        }
    }
}

/// tidegate's with the same weights.
enum Ours {
    Lstm(tidegate_burn::Lstm),
    Gru(tidegate_burn::Gru),
    Rnn(tidegate_burn::Rnn),
}

impl Ours {
    fn new(case: &Case, layers: &[Layer], device: &Device) -> Self {
        let size = case.size;
        match &layers[0] {
            Layer::Lstm(first) => {
                let mut ours = tidegate_burn::LstmConfig::new(size, size, true).with_num_layers(case.layers).init(device);
                let one = tidegate_burn::Lstm::try_from(first.clone()).expect("Burn's defaults");
                (ours.input_gate, ours.forget_gate) = (one.input_gate, one.forget_gate);
                (ours.output_gate, ours.cell_gate) = (one.output_gate, one.cell_gate);
                for (gates, layer) in ours.upper.iter_mut().zip(&layers[1..]) {
                    let Layer::Lstm(layer) = layer.clone() else { unreachable!("all layers are of one kind") };
                    gates.input_gate = layer.input_gate;
                    gates.forget_gate = layer.forget_gate;
                    gates.output_gate = layer.output_gate;
                    gates.cell_gate = layer.cell_gate;
                }
                Self::Lstm(ours)
            }
            Layer::Gru(layer) => Self::Gru(layer.clone().try_into().expect("Burn's defaults")),
            Layer::Rnn(layer) => Self::Rnn(layer.clone().try_into().expect("Burn's defaults")),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Lstm(ours) => ours.try_forward(x, None, None).expect("the device runs").0,
            Self::Gru(ours) => ours.forward(x, None),
            Self::Rnn(ours) => ours.forward(x, None).0,
        }
    }
}

/// What a run makes, held until the device has finished it.
fn run(case: &Case, x: &Tensor<3>, d: &Tensor<3>, forward: impl Fn(Tensor<3>) -> Tensor<3>) -> Box<dyn Any> {
    if !case.train {
        return Box::new(forward(x.clone()));
    }
    let y = forward(x.clone());
    Box::new((y.clone(), (y * d.clone()).sum().backward()))
}

/// The copies alone that tidegate makes between Burn's buffers and its own: bytes of each, from one buffer to another.
struct Copies {
    setup: WgpuSetup,
    from: wgpu::Buffer,
    to: wgpu::Buffer,
    bytes: Vec<u64>,
}

impl Copies {
    fn new(case: &Case, setup: &WgpuSetup) -> Self {
        let &Case { size, layers, steps, batch, .. } = case;
        let (gates, states) = match case.cell.as_str() {
            "lstm" => (4, 2),
            "gru" => (3, 1),
            _ => (1, 1),
        };
        let sequence = [steps * batch * size];
        let weights = (0..layers * gates).flat_map(|_| [size * size, size * size, size, size]);
        let mut elements: Vec<usize> = sequence.into_iter().chain(weights).collect();
        if case.train {
            // Gradients of the input and the weights, and of the output.
            elements.extend(elements.clone());
            elements.extend(sequence);
        }
        elements.extend(sequence);
        elements.extend((0..states).map(|_| layers * batch * size));
        let bytes: Vec<u64> = elements.into_iter().map(|elements| 4 * elements as u64).collect();
        let buffer = |label| {
            let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            let size = *bytes.iter().max().expect("there is an input");
            setup.device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        Self { from: buffer("from"), to: buffer("to"), setup: setup.clone(), bytes }
    }

    fn run(&self) -> Box<dyn Any> {
        let mut encoder = self.setup.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for &bytes in &self.bytes {
            encoder.copy_buffer_to_buffer(&self.from, 0, &self.to, 0, bytes);
        }
        self.setup.queue.submit([encoder.finish()]);
        self.setup.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device runs");
        Box::new(())
    }
}

/// The values below which a quarter, half and three quarters of them are, by straight lines between two.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [0.25, 0.5, 0.75].map(|part| {
        let at = part * (values.len() - 1) as f64;
        let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
        low + (high - low) * at.fract()
    })
}

fn medians<const N: usize>(rounds: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|column| quartiles(rounds.iter().map(|round| round[column]).collect())[1])
}

/// Times in ms, by turns: one row for each round, one column for each run.
fn measure<const N: usize>(device: &Device, runs: [&dyn Fn() -> Box<dyn Any>; N]) -> Vec<[f64; N]> {
    let once = |run: &dyn Fn() -> Box<dyn Any>| {
        let start = Instant::now();
        let results = run();
        device.sync().expect("the device runs");
        let time = start.elapsed().as_secs_f64() * 1e3;
        drop(results);
        time
    };
    let repeat = |(least, time): (usize, Duration)| {
        let (start, mut rounds) = (Instant::now(), Vec::new());
        while rounds.len() < least || start.elapsed() < time {
            rounds.push(runs.map(once));
        }
        rounds
    };
    repeat((FIRST_RUNS, Duration::ZERO));
    let (start, mut level, mut is_falling) = (Instant::now(), [f64::INFINITY; N], true);
    while start.elapsed() < WARM_UP || is_falling && start.elapsed() < WARM_UP_AT_MOST {
        let block = medians(&repeat((1, BLOCK)));
        is_falling = block.iter().zip(level).any(|(block, level)| *block < 0.97 * level);
        level = std::array::from_fn(|column| level[column].min(block[column]));
    }
    repeat(MEASURED)
}

fn relative_error(actual: Tensor<3>, expected: Tensor<3>) -> f64 {
    let (actual, expected) = (actual.to_data(), expected.to_data());
    let pairs = actual.iter::<f64>().zip(expected.iter::<f64>());
    let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (a, e)| (error + (a - e).powi(2), norm + e * e));
    (error / norm).sqrt()
}

/// What a case came to. Times in ms.
struct Row {
    case: String,
    ours: f64,
    copies: f64,
    burns: f64,
    /// Burn's time over ours: quartiles over the rounds.
    ratio: [f64; 3],
    rounds: usize,
    /// Of the outputs, relative.
    error: f64,
}

impl Row {
    const HEAD: &str = "| case | tidegate ms | its copies alone | Burn ms | Burn / tidegate | rounds | outputs differ by |\n|---|---|---|---|---|---|---|";

    fn line(&self) -> String {
        let Self { case, ours, copies, burns, ratio: [low, ratio, high], rounds, error } = self;
        format!("| {case} | {ours:.3} | {copies:.3} | {burns:.2} | {ratio:.1} ({low:.1} to {high:.1}) | {rounds} | {error:.0e} |")
    }

    fn json(&self) -> Value {
        let Self { case, ours, copies, burns, ratio: [low, ratio, high], rounds, error } = self;
        json!({
            "case": case, "tidegate_ms": ours, "copies_ms": copies, "burn_ms": burns,
            "ratio": ratio, "ratio_quartiles": [low, high], "rounds": rounds, "relative_error": error,
        })
    }
}

fn bench(case: &Case, plain: &Device, setup: &WgpuSetup) -> Row {
    let device = if case.train { plain.clone().autodiff() } else { plain.clone() };
    let size = case.size;
    let layer = || match case.cell.as_str() {
        "lstm" => Layer::Lstm(nn::LstmConfig::new(size, size, true).init(&device)),
        "gru" => Layer::Gru(nn::GruConfig::new(size, size, true).init(&device)),
        "rnn_tanh" => Layer::Rnn(nn::RnnConfig::new(size, size, true).init(&device)),
        other => unreachable!("Burn has no {other}"),
    };
    let theirs: Vec<Layer> = (0..case.layers).map(|_| layer()).collect();
    let ours = Ours::new(case, &theirs, &device);
    let uniform = Distribution::Uniform(-1.0, 1.0);
    let shape = [case.batch, case.steps, size];
    let x: Tensor<3> = Tensor::random(shape, uniform, &device);
    let x = if case.train { x.require_grad() } else { x };
    let d: Tensor<3> = Tensor::random(shape, uniform, &device);
    let forward = |x| theirs.iter().fold(x, |x, layer| layer.forward(x));

    let copies = Copies::new(case, setup);
    let rounds = measure(&device, [&|| run(case, &x, &d, |x| ours.forward(x)), &|| run(case, &x, &d, forward), &|| copies.run()]);
    let [our_time, burns, copying] = medians(&rounds);
    let ratio = quartiles(rounds.iter().map(|round| round[1] / round[0]).collect());
    let error = relative_error(ours.forward(x.clone()), forward(x));
    Row { case: case.name(), ours: our_time, copies: copying, burns, ratio, rounds: rounds.len(), error }
}

fn measure_all(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    tidegate_burn::register(&device, &setup)?;
    let info = setup.adapter.get_info();
    println!("{} ({}, {} {})\n", info.name, info.backend, info.driver, info.driver_info);
    println!("{}", Row::HEAD);
    let (mut rows, mut left_out, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases(info.device_type != wgpu::DeviceType::Cpu)? {
        let name = case.name();
        if !options.parts.iter().all(|part| name.contains(part.as_str())) {
            continue;
        }
        if start.elapsed() < options.budget {
            eprintln!("{:.0} s: {name}", start.elapsed().as_secs_f64());
            let row = bench(&case, &device, &setup);
            println!("{}", row.line());
            if row.error.is_nan() || row.error > ERROR_AT_MOST {
                wrong.push(name);
            }
            rows.push(row.json());
        } else {
            left_out.push(name);
        }
        if let Some(path) = &options.json {
            let report = json!({
                "adapter": info.name, "backend": info.backend.to_string(), "driver": info.driver, "driver_info": info.driver_info,
                "fusion": cfg!(feature = "fusion"), "seconds": start.elapsed().as_secs_f64(), "rows": rows, "left_out": left_out,
            });
            std::fs::write(path, format!("{report:#}\n")).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    if !left_out.is_empty() {
        println!("\nLeft out, for the time was up after {:.0} s: {}", start.elapsed().as_secs_f64(), left_out.join("; "));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("outputs differ by more than {ERROR_AT_MOST}: {}", wrong.join("; ")).into())
    }
}

fn main() -> ExitCode {
    let measured = Options::read(std::env::args().skip(1)).map_err(Into::into).and_then(|options| measure_all(&options));
    if let Err(error) = measured {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
