//! Burn's recurrent layers and tidegate's, on one device of Burn's in one process, at the shapes of `tidegate bench --suite quick`.
//!
//!     cargo bench                      # all
//!     cargo bench -- "lstm 64" train   # cases whose names hold all of these
//!
//! A run is a forward from zeros, in training with gradients of input and weights, and the wait for the device.

use std::any::Any;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn;
use burn::tensor::{Device, Distribution, Tensor};

/// Warm: Burn has built and tuned its kernels, and fusion has seen the graph.
const WARM_UP: (usize, Duration) = (5, Duration::from_secs(2));
const MEASURED: (usize, Duration) = (10, Duration::from_secs(2));

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

/// The median, the least, and how many.
fn measure(device: &Device, run: impl Fn() -> Box<dyn Any>) -> (f64, f64, usize) {
    let once = || {
        let start = Instant::now();
        let results = run();
        device.sync().expect("the device runs");
        let time = start.elapsed().as_secs_f64() * 1e3;
        drop(results);
        time
    };
    let repeat = |(least, time): (usize, Duration)| {
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < least || start.elapsed() < time {
            times.push(once());
        }
        times
    };
    repeat(WARM_UP);
    let mut times = repeat(MEASURED);
    times.sort_by(f64::total_cmp);
    ((times[(times.len() - 1) / 2] + times[times.len() / 2]) / 2.0, times[0], times.len())
}

fn relative_error(actual: Tensor<3>, expected: Tensor<3>) -> f64 {
    let (actual, expected) = (actual.to_data(), expected.to_data());
    let pairs = actual.iter::<f64>().zip(expected.iter::<f64>());
    let (error, norm) = pairs.fold((0.0, 0.0), |(error, norm), (a, e)| (error + (a - e).powi(2), norm + e * e));
    (error / norm).sqrt()
}

fn bench(case: &Case, plain: &Device) {
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

    let (our_median, our_least, our_runs) = measure(&device, || run(case, &x, &d, |x| ours.forward(x)));
    print!("| {} | {our_median:.3} ({our_least:.3}) ", case.name());
    std::io::Write::flush(&mut std::io::stdout()).expect("stdout is open");
    let (median, least, runs) = measure(&device, || run(case, &x, &d, forward));
    let error = relative_error(ours.forward(x.clone()), forward(x.clone()));
    println!(
        "| {median:.1} ({least:.1}) | {:.0}x ({:.0}x) | {our_runs}, {runs} | {error:.0e} |",
        median / our_median,
        least / our_least
    );
    assert!(error < 1e-4, "{}: off by {error}", case.name());
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let (device, setup) = Device::wgpu_options().init_with_setup().expect("an adapter");
    tidegate_burn::register(&device, &setup).expect("tidegate runs on it");
    let info = setup.adapter.get_info();
    println!("{} ({}, {} {})\n", info.name, info.backend, info.driver, info.driver_info);
    println!("| case | tidegate ms, median (least) | Burn ms | Burn / tidegate | runs | outputs differ by |");
    println!("|---|---|---|---|---|---|");
    for case in cases() {
        if wanted.iter().all(|part| case.name().contains(part.as_str())) {
            bench(&case, &device);
        }
    }
}
