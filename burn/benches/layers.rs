//! Burn's recurrent layers and tidegate's, on one device of Burn's in one process, at the shapes of `tidegate bench --suite quick`.
//!
//!     cargo bench                      # all
//!     cargo bench -- "lstm 64" train   # cases whose names hold all of these
//!
//! A run is a forward from zeros, in training with gradients of input and weights, and the wait for the device. The two run by turns; times
//! are medians, and the ratio is the median of the rounds' ratios, so that what else the machine does falls on both.

#![expect(clippy::large_enum_variant, reason = "there are few of them")]

use std::any::Any;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn;
use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn::tensor::{Device, Distribution, Tensor};

/// Warm: Burn has built and tuned its kernels, and fusion has seen the graph.
const WARM_UP: (usize, Duration) = (3, Duration::from_secs(1));
const MEASURED: (usize, Duration) = (9, Duration::from_secs(2));

struct Case {
    cell: &'static str,
    size: usize,
    layers: usize,
    steps: usize,
    batch: usize,
    train: bool,
}

impl Case {
    fn name(&self) -> String {
        let Self { cell, size, layers, steps, batch, .. } = self;
        let layers = if *layers > 1 { format!(", L {layers}") } else { String::new() };
        format!("{cell} {size}{layers}, T {steps}, B {batch}, {}", if self.train { "train" } else { "infer" })
    }
}

fn cases() -> Vec<Case> {
    let shapes = [
        ("lstm", 64, 1, 32, 1),
        ("lstm", 128, 1, 64, 8),
        ("lstm", 256, 1, 64, 16),
        ("gru", 64, 1, 32, 1),
        ("gru", 128, 1, 64, 8),
        ("gru", 256, 1, 64, 16),
        ("rnn_tanh", 256, 1, 64, 16),
        ("lstm", 128, 2, 64, 8),
    ];
    let both = |(cell, size, layers, steps, batch)| [false, true].map(|train| Case { cell, size, layers, steps, batch, train });
    shapes.into_iter().flat_map(both).collect()
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
        let (gates, states) = match case.cell {
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
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
    repeat(WARM_UP);
    repeat(MEASURED)
}

fn relative_error(actual: Tensor<3>, expected: Tensor<3>) -> f64 {
    let (actual, expected) = (actual.to_data(), expected.to_data());
    let pairs = actual.iter::<f64>().zip(expected.iter::<f64>());
    let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (a, e)| (error + (a - e).powi(2), norm + e * e));
    (error / norm).sqrt()
}

fn bench(case: &Case, plain: &Device, setup: &WgpuSetup) {
    let device = if case.train { plain.clone().autodiff() } else { plain.clone() };
    let size = case.size;
    let layer = || match case.cell {
        "lstm" => Layer::Lstm(nn::LstmConfig::new(size, size, true).init(&device)),
        "gru" => Layer::Gru(nn::GruConfig::new(size, size, true).init(&device)),
        _ => Layer::Rnn(nn::RnnConfig::new(size, size, true).init(&device)),
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
    let [our_time, burns, copying] = [0, 1, 2].map(|column| median(rounds.iter().map(|round| round[column]).collect()));
    let ratios: Vec<f64> = rounds.iter().map(|round| round[1] / round[0]).collect();
    let error = relative_error(ours.forward(x.clone()), forward(x.clone()));
    println!(
        "| {} | {our_time:.2} | {copying:.2} | {burns:.1} | {:.1} | {} | {error:.0e} |",
        case.name(),
        median(ratios),
        rounds.len()
    );
    assert!(error < 1e-4, "{}: off by {error}", case.name());
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let (device, setup) = Device::wgpu_options().init_with_setup().expect("an adapter");
    tidegate_burn::register(&device, &setup).expect("tidegate runs on it");
    let info = setup.adapter.get_info();
    println!("{} ({}, {} {})\n", info.name, info.backend, info.driver, info.driver_info);
    println!("| case | tidegate ms | its copies alone | Burn ms | Burn / tidegate | rounds | outputs differ by |");
    println!("|---|---|---|---|---|---|---|");
    for case in cases() {
        if wanted.iter().all(|part| case.name().contains(part.as_str())) {
            bench(&case, &device, &setup);
        }
    }
}
