//! Burn's recurrent modules on wgpu, timed as `tidegate bench` times its own. One network at one shape per run of the program.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::activation::ActivationConfig;
use burn::nn::{Gru, GruConfig, Lstm, LstmConfig, LstmState, Rnn, RnnConfig, RnnState};
use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::{Device, Distribution, Gradients, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

/// As in Cargo.toml; a library does not tell its own version.
const BURN: &str = "0.22.1";
/// A case whose pipelines are not built and tuned by then is left out.
const LONGEST_WARM_UP: Duration = Duration::from_secs(600);
const TOLERANCE: f64 = 1e-4;

/// Times Burn's Lstm, Gru and Rnn on wgpu and prints the JSON of `tidegate bench --json`.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// lstm, gru, gru_reset_before, rnn_tanh, rnn_relu, rnn_linear
    #[arg(long, default_value = "lstm")]
    cell: String,
    #[arg(long, default_value_t = 128)]
    input: usize,
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    #[arg(long, default_value_t = 100)]
    seq: usize,
    #[arg(long, default_value_t = 1)]
    batch: usize,
    #[arg(long, default_value_t = 1)]
    layers: usize,
    #[arg(long)]
    bidirectional: bool,
    #[arg(long, default_value = "infer")]
    mode: Mode,
    /// Write the JSON there instead of printing it
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Infer,
    Train,
}

#[derive(Module, Debug)]
enum Layer {
    Lstm(Lstm),
    Gru(Gru),
    Rnn(Rnn),
}

impl Layer {
    fn new(cell: &str, input: usize, hidden: usize, device: &Device) -> Option<Self> {
        let rnn = |activation| {
            Self::Rnn(RnnConfig::new(input, hidden, true).with_batch_first(false).with_hidden_activation(activation).init(device))
        };
        let gru = GruConfig::new(input, hidden, true);
        Some(match cell {
            "lstm" => Self::Lstm(LstmConfig::new(input, hidden, true).with_batch_first(false).init(device)),
            "gru" => Self::Gru(gru.init(device)),
            "gru_reset_before" => Self::Gru(gru.with_reset_after(false).init(device)),
            "rnn_tanh" => rnn(ActivationConfig::Tanh),
            "rnn_relu" => rnn(ActivationConfig::Relu),
            "rnn_linear" => rnn(ActivationConfig::Identity),
            _ => return None,
        })
    }

    /// Output of all steps and the final states. Gru alone takes the batch first, and gives no final state.
    fn forward(&self, input: Tensor<3>, state: &[Tensor<2>; 2]) -> (Tensor<3>, Vec<Tensor<2>>) {
        let [hidden, cell] = state.clone();
        match self {
            Self::Lstm(lstm) => {
                let (output, state) = lstm.forward(input, Some(LstmState::new(cell, hidden)));
                (output, vec![state.hidden, state.cell])
            }
            Self::Gru(gru) => (gru.forward(input.swap_dims(0, 1), Some(hidden)).swap_dims(0, 1), Vec::new()),
            Self::Rnn(rnn) => {
                let (output, state) = rnn.forward(input, Some(RnnState::new(hidden)));
                (output, vec![state.hidden])
            }
        }
    }
}

/// Layers and their data on one device.
struct Network {
    layers: Vec<Layer>,
    input: Tensor<3>,
    /// Hidden and cell state of each layer; only an LSTM reads the second.
    states: Vec<[Tensor<2>; 2]>,
    d_output: Tensor<3>,
    mode: Mode,
}

impl Network {
    fn new(args: &Args, device: &Device) -> Option<Self> {
        let device = &if args.mode == Mode::Train { device.clone().autodiff() } else { device.clone() };
        let uniform = Distribution::Uniform(-1.0, 1.0);
        let layers: Option<Vec<_>> = (0..args.layers)
            .map(|layer| Layer::new(&args.cell, if layer == 0 { args.input } else { args.hidden }, args.hidden, device))
            .collect();
        let state = || Tensor::random([args.batch, args.hidden], uniform, device);
        Some(
            Self {
                layers: layers?,
                input: Tensor::random([args.seq, args.batch, args.input], uniform, device),
                states: (0..args.layers).map(|_| [state(), state()]).collect(),
                d_output: Tensor::random([args.seq, args.batch, args.hidden], uniform, device),
                mode: args.mode,
            }
            .with_gradients(),
        )
    }

    /// The same numbers on another device.
    fn fork(&self, device: &Device) -> Self {
        let device = &if self.mode == Mode::Train { device.clone().autodiff() } else { device.clone() };
        let copy = |tensor: &Tensor<2>| Tensor::from_data(tensor.to_data(), device);
        Self {
            layers: self.layers.iter().map(|layer| layer.clone().fork(device)).collect(),
            input: Tensor::from_data(self.input.to_data(), device),
            states: self.states.iter().map(|[hidden, cell]| [copy(hidden), copy(cell)]).collect(),
            d_output: Tensor::from_data(self.d_output.to_data(), device),
            mode: self.mode,
        }
        .with_gradients()
    }

    /// The input and the initial states have gradients, as in `tidegate bench`.
    fn with_gradients(self) -> Self {
        if self.mode == Mode::Infer {
            return self;
        }
        let states = self.states.into_iter().map(|state| state.map(Tensor::require_grad)).collect();
        Self { input: self.input.require_grad(), states, ..self }
    }

    fn run(&self) -> Run {
        let (mut output, mut finals) = (self.input.clone(), Vec::new());
        for (layer, state) in self.layers.iter().zip(&self.states) {
            let (y, mut last) = layer.forward(output, state);
            output = y;
            finals.append(&mut last);
        }
        let gradients = (self.mode == Mode::Train).then(|| {
            let loss = (output.clone() * self.d_output.clone()).sum();
            // The final states have gradients of their own, as in `tidegate bench`.
            finals.iter().fold(loss, |loss, last| loss + last.clone().sum()).backward()
        });
        Run { output, finals, gradients }
    }

    /// All outputs and gradients.
    fn read(&self) -> Vec<TensorData> {
        let Run { output, finals, gradients } = self.run();
        let mut values = vec![output.to_data()];
        values.extend(finals.iter().map(Tensor::to_data));
        if let Some(gradients) = &gradients {
            values.extend(self.input.grad(gradients).map(|d| d.to_data()));
            values.extend(self.states.iter().flatten().filter_map(|state| Some(state.grad(gradients)?.to_data())));
            let mut reader = GradientReader { gradients, values };
            self.layers.iter().for_each(|layer| layer.visit(&mut reader));
            values = reader.values;
        }
        values
    }
}

/// What a run computed. Held until the device has finished, so that nothing is thought to be unused.
struct Run {
    output: Tensor<3>,
    finals: Vec<Tensor<2>>,
    gradients: Option<Gradients>,
}

struct GradientReader<'a> {
    gradients: &'a Gradients,
    values: Vec<TensorData>,
}

impl ModuleVisitor for GradientReader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.values.push(param.val().grad(self.gradients).expect("every parameter has a gradient").to_data());
    }
}

/// The largest relative L2 error of any tensor.
fn max_rel_err(values: &[TensorData], reference: &[TensorData]) -> f64 {
    assert_eq!(values.len(), reference.len());
    let error = |(values, reference): (&TensorData, &TensorData)| {
        let pairs = values.iter::<f64>().zip(reference.iter::<f64>());
        let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (v, r)| (error + (v - r) * (v - r), norm + r * r));
        // NaN shall not pass for the smallest.
        if error.is_finite() { (error / norm.max(1e-60)).sqrt() } else { f64::INFINITY }
    };
    values.iter().zip(reference).map(error).fold(0.0, f64::max)
}

struct Measured {
    first: f64,
    times: Vec<f64>,
    max_rel_err: f64,
}

fn measure(network: &Network, device: &Device, warm: &mpsc::Sender<()>) -> Measured {
    let run = || {
        let start = Instant::now();
        let results = network.run();
        device.sync().expect("the device runs");
        let time = start.elapsed().as_secs_f64() * 1e3;
        drop(results);
        time
    };
    // Pipelines are built and tuned by the first run; fusion still learns from the next ones.
    let start = Instant::now();
    let first = run();
    for runs in 1.. {
        if runs >= 5 && start.elapsed() >= Duration::from_secs(3) {
            break;
        }
        run();
    }
    let max_rel_err = max_rel_err(&network.read(), &network.fork(&Device::flex()).read());
    run();
    warm.send(()).expect("the watchdog waits");

    // The rule of common.py.
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 5 || start.elapsed().as_secs() < 2 || times.len() < 20 && start.elapsed().as_secs() < 30 {
        times.push(run());
    }
    times.sort_by(f64::total_cmp);
    Measured { first, times, max_rel_err }
}

/// FLOPs of the products of one run, as `tidegate bench` counts them.
fn flops(args: &Args) -> f64 {
    let gates = match args.cell.as_str() {
        "lstm" => 4,
        "gru" | "gru_reset_before" => 3,
        _ => 1,
    };
    let inputs = args.input + (args.layers - 1) * args.hidden + args.layers * args.hidden;
    let passes = if args.mode == Mode::Train { 3 } else { 1 };
    (2 * gates * args.hidden * inputs * args.seq * args.batch * passes) as f64
}

fn report(args: &Args, setup: &WgpuSetup, measured: Result<&Measured, String>) -> Value {
    let info = setup.adapter.get_info();
    let note = measured.as_ref().err().cloned();
    let measured = measured.ok();
    let times = measured.map(|m| &m.times);
    let median = times.map(|times| (times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0);
    let error = measured.map(|m| m.max_rel_err);
    let device_type = match format!("{:?}", info.device_type).as_str() {
        "DiscreteGpu" => "discrete-gpu",
        "IntegratedGpu" => "integrated-gpu",
        "VirtualGpu" => "virtual-gpu",
        "Cpu" => "software",
        _ => "other",
    };
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let cpu = cpu_info.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let load: Option<f64> = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
    json!({
        "schema": 1,
        "tidegate_version": null,
        "peer": "burn-wgpu",
        "versions": { "burn": BURN },
        "host": {
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "cpus": thread::available_parallelism().map_or(1, usize::from),
            "cpu": cpu,
            "load_average": load,
        },
        "results": [{
            "device": info.name,
            "backend": info.backend.to_string(),
            "driver": format!("{} {}", info.driver, info.driver_info).trim(),
            "device_type": device_type,
            "cell": args.cell,
            "mode": if args.mode == Mode::Train { "train" } else { "infer" },
            "I": args.input,
            "H": args.hidden,
            "L": args.layers,
            "D": if args.bidirectional { 2 } else { 1 },
            "T": args.seq,
            "B": args.batch,
            "dtype": "f32",
            "strategy": "burn",
            "dispatches": null,
            "includes_input": true,
            "ms_median": median,
            "ms_min": times.map(|times| times[0]),
            "gpu_ms_median": null,
            "runs": times.map_or(0, Vec::len),
            "gflops": median.map(|median| flops(args) / median * 1e-6),
            "roofline_fraction": null,
            "verified": error.is_some_and(|error| error <= TOLERANCE),
            "verified_T": measured.map(|_| args.seq),
            "verified_B": measured.map(|_| args.batch),
            "max_rel_err": error,
            "first_ms": measured.map(|m| m.first),
            "note": note,
        }],
    })
}

fn write(args: &Args, report: &Value) {
    let text = format!("{report:#}\n");
    match &args.json {
        Some(path) => std::fs::write(path, text).expect("the JSON file can be written"),
        None => print!("{text}"),
    }
}

fn main() {
    let args = Args::parse();
    let (device, setup) = Device::wgpu_options().init_with_setup().expect("an adapter");
    let network = if args.bidirectional { None } else { Network::new(&args, &device) };
    let Some(network) = network else {
        let what = if args.bidirectional { "both directions" } else { &args.cell };
        return write(&args, &report(&args, &setup, Err(format!("not timed here: {what}"))));
    };

    // A compilation cannot be interrupted, so the end of the patience ends the process.
    let (warm, waiting) = mpsc::channel();
    let (watched, setup_of_watchdog) = (args.clone(), setup.clone());
    thread::spawn(move || {
        if waiting.recv_timeout(LONGEST_WARM_UP) == Err(mpsc::RecvTimeoutError::Timeout) {
            let note = format!("warm-up passed {} s", LONGEST_WARM_UP.as_secs());
            write(&watched, &report(&watched, &setup_of_watchdog, Err(note)));
            std::process::exit(0);
        }
    });
    let measured = measure(&network, &device, &warm);
    let report = report(&args, &setup, Ok(&measured));
    write(&args, &report);
    std::process::exit(i32::from(measured.max_rel_err > TOLERANCE));
}
