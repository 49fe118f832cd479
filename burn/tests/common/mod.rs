//! What the tests share: the device, numbers, and how gradients are read.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::OnceLock;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

/// Burn's wgpu device, which tidegate knows.
pub fn wgpu() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| tidegate_burn::init(Device::wgpu_options()).expect("these tests need an adapter")).clone()
}

/// Numbers in ±1, the same for the same seed.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A tensor of [`numbers`].
pub fn tensor<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(seed, shape.iter().product()), shape), device)
}

/// A tensor's values now. Burn 0.22.1 copies what `to_data` gives on first access, and has by then worked in place if it could.
pub fn read<const D: usize>(tensor: Tensor<D>) -> TensorData {
    let data = tensor.to_data();
    TensorData::new(data.iter::<f32>().collect(), data.shape().clone())
}

/// A value with its name.
pub type Named = (String, TensorData);

/// The gradients of all weights, in the order of the module's fields.
pub fn weight_gradients(module: &impl Module, gradients: &Gradients) -> Vec<Named> {
    struct Reader<'a> {
        gradients: &'a Gradients,
        values: Vec<Named>,
    }
    impl ModuleVisitor for Reader<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.gradients).expect("every weight has a gradient");
            self.values.push((format!("d_weight {}", self.values.len()), read(gradient)));
        }
    }
    let mut reader = Reader { gradients, values: Vec::new() };
    module.visit(&mut reader);
    reader.values
}

/// Fails where two lists of values differ by more than f32 explains.
pub fn assert_close(case: &str, actual: &[Named], expected: &[Named]) {
    assert_eq!(actual.len(), expected.len(), "{case}");
    for ((name, actual), (expected_name, expected)) in actual.iter().zip(expected) {
        assert_eq!(name, expected_name, "{case}");
        assert_eq!(actual.shape(), expected.shape(), "{case}: {name}");
        let (actual, expected): (Vec<f64>, Vec<f64>) = (actual.iter().collect(), expected.iter().collect());
        assert_close_values(&format!("{case}: {name}"), &actual, &expected);
    }
}

/// Relative L2 error.
pub fn assert_close_values(what: &str, actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let error: f64 = actual.iter().zip(expected).map(|(a, e)| (a - e).powi(2)).sum();
    let norm: f64 = expected.iter().map(|e| e * e).sum();
    let relative = (error / norm.max(1e-12)).sqrt();
    // NaN shall not pass.
    assert!(relative <= 2e-5, "{what}: off by {relative}");
}
