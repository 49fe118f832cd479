//! What several suites share.
#![allow(dead_code, reason = "each suite is a crate of its own and uses a part")]

pub mod calls;
#[cfg(feature = "cli")]
pub mod command;
pub mod covering;
pub mod narrow;
pub mod recorded;

use std::path::PathBuf;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidegate::cell::registry;
use tidegate::{Activation, Cell, Context, Elman, Gru, Lstm};

/// A path of this repository. What cargo says at run time counts, so that a test binary finds its fixtures on another machine too.
pub fn path(inside: &str) -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from).join(inside)
}

/// All eleven activations; those that keep their input instead of their output also with such an alpha.
pub const ACTIVATIONS: [Activation; 14] = [
    Activation::Relu,
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Affine { alpha: -0.8, beta: 0.2 },
    Activation::LeakyRelu { alpha: 0.1 },
    Activation::LeakyRelu { alpha: -0.5 },
    Activation::ThresholdedRelu { alpha: 0.3 },
    Activation::ThresholdedRelu { alpha: -0.2 },
    Activation::ScaledTanh { alpha: 1.7, beta: 0.6 },
    Activation::HardSigmoid { alpha: 0.4, beta: 0.5 },
    Activation::Elu { alpha: 0.7 },
    Activation::Elu { alpha: -0.7 },
    Activation::Softsign,
    Activation::Softplus,
];

/// The registry, and every option of every cell. The options bite at pre-activations and states around ±1.
pub fn cell_variants() -> Vec<(String, Arc<dyn Cell>)> {
    use Activation::*;
    let mut variants: Vec<(String, Arc<dyn Cell>)> = registry().into_iter().map(|cell| (cell.name().into(), cell)).collect();
    let mut add = |name: &str, cell: Arc<dyn Cell>| variants.push((name.into(), cell));

    for activation in ACTIVATIONS {
        add(&format!("elman {activation:?}"), Arc::new(Elman::new(activation)));
    }
    add("elman Tanh clip", Arc::new(Elman::tanh().with_clip(0.5)));
    add("elman Softplus clip", Arc::new(Elman::new(Softplus).with_clip(0.5)));

    let hard = HardSigmoid { alpha: 0.4, beta: 0.5 };
    let lstm = Lstm::default();
    add("lstm peepholes", Arc::new(lstm.clone().with_peepholes(true)));
    add("lstm input_forget", Arc::new(lstm.clone().with_input_forget(true)));
    add("lstm cell_clip", Arc::new(lstm.clone().with_cell_clip(0.4)));
    add("lstm clip", Arc::new(lstm.clone().with_clip(0.5)));
    add("lstm peepholes cell_clip", Arc::new(lstm.clone().with_peepholes(true).with_cell_clip(0.4)));
    let all = lstm.clone().with_peepholes(true).with_input_forget(true).with_cell_clip(0.4).with_clip(0.5);
    add("lstm all options", Arc::new(all.clone()));
    let (scaled, leaky, elu) = (ScaledTanh { alpha: 1.7, beta: 0.6 }, LeakyRelu { alpha: -0.3 }, Elu { alpha: -0.5 });
    add("lstm HardSigmoid Softsign ScaledTanh", Arc::new(lstm.clone().with_activations(hard, Softsign, scaled)));
    let affine = Affine { alpha: 0.5, beta: 0.1 };
    add("lstm Sigmoid Affine Softplus", Arc::new(lstm.clone().with_activations(Sigmoid, affine, Softplus)));
    add("lstm Elu(-) LeakyRelu(-) Elu(-)", Arc::new(lstm.clone().with_activations(elu, leaky, elu)));
    add("lstm all options HardSigmoid Relu Elu", Arc::new(all.with_activations(hard, Relu, Elu { alpha: 0.7 })));

    let gru = Gru::default();
    add("gru clip", Arc::new(gru.clone().with_clip(0.5)));
    add("gru HardSigmoid Relu", Arc::new(gru.clone().with_activations(hard, Relu)));
    add("gru LeakyRelu(-) LeakyRelu(-)", Arc::new(gru.with_activations(leaky, leaky)));
    let gru = Gru::reset_before();
    add("gru_reset_before clip", Arc::new(gru.clone().with_clip(0.5)));
    add("gru_reset_before HardSigmoid Relu", Arc::new(gru.clone().with_activations(hard, Relu)));
    add("gru_reset_before LeakyRelu(-) LeakyRelu(-)", Arc::new(gru.with_activations(leaky, leaky)));
    variants
}

/// A device without the feature of f16 in shaders.
pub fn without_f16() -> Context {
    let adapter = adapter();
    let descriptor = wgpu::DeviceDescriptor {
        required_features: Context::wanted_features(&adapter) - wgpu::Features::SHADER_F16,
        required_limits: Context::wanted_limits(&adapter),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Context::from_device(&adapter, &device, &queue).unwrap()
}

/// `n` values uniform in ±`bound`; the same seed gives the same values.
pub fn uniform(seed: u64, n: usize, bound: f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-bound..=bound)).collect()
}

/// The adapter that wgpu prefers. There must be one: a missing GPU is a failure, never a pass.
pub fn context() -> Context {
    use std::sync::OnceLock;
    static SHARED: OnceLock<Context> = OnceLock::new();
    SHARED.get_or_init(own_context).clone()
}

/// The same, on a device of the test's own.
pub fn own_context() -> Context {
    pollster::block_on(Context::request()).expect("these tests need a GPU adapter: ./tests/run installs one")
}

/// The adapter that wgpu prefers, for a device of the test's own making: of the process's one instance, so that devices can be told
/// apart.
pub fn adapter() -> wgpu::Adapter {
    let adapter = pollster::block_on(Context::instance().request_adapter(&wgpu::RequestAdapterOptions::default()));
    adapter.expect("these tests need a GPU adapter: ./tests/run installs one")
}

/// Runs `check` on every item, on two devices side by side: a software adapter compiles shaders on one thread a device.
pub fn side_by_side<T: Sync>(items: &[T], check: impl Fn(&Context, usize, &T) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..2 {
            let check = &check;
            scope.spawn(move || {
                let ctx = own_context();
                items.iter().enumerate().skip(first).step_by(2).for_each(|(at, item)| check(&ctx, at, item));
            });
        }
    });
}
