//! Gradients through graphs that are not one call with one loss.

mod common;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use common::{assert_close, read, tensor, weight_gradients, wgpu};

const I: usize = 4;
const T: usize = 5;
const B: usize = 3;

/// One module twice in one graph, so two forwards are under way before the first backward; on Burn's CPU and here.
#[test]
fn a_module_twice() {
    let (cpu, gpu) = (Device::flex().autodiff(), wgpu().autodiff());
    let theirs = burn::nn::LstmConfig::new(I, I, true).init(&cpu);
    let ours = tidegate_burn::LstmConfig::new(I, I, true).init(&gpu).load_record(theirs.clone().into_record());
    let expected = {
        let x: Tensor<3> = tensor(1, [B, T, I], &cpu).require_grad();
        let (y, state) = theirs.forward(x.clone(), None);
        let (y, _) = theirs.forward(y, Some(state));
        let gradients = (y * tensor(2, [B, T, I], &cpu)).sum().backward();
        let mut values = vec![("d_input".to_string(), read(x.grad(&gradients).unwrap()))];
        values.extend(weight_gradients(&theirs, &gradients));
        values
    };
    let x: Tensor<3> = tensor(1, [B, T, I], &gpu).require_grad();
    let (y, state) = ours.forward(x.clone(), None);
    let (y, _) = ours.forward(y, Some(state));
    let gradients = (y * tensor(2, [B, T, I], &gpu)).sum().backward();
    let mut values = vec![("d_input".to_string(), read(x.grad(&gradients).unwrap()))];
    values.extend(weight_gradients(&ours, &gradients));
    assert_close("twice", &values, &expected);
}

/// Only the last cell state has a gradient, only some weights are tracked, and the input is a view that is not contiguous.
#[test]
fn parts_of_a_graph() {
    let (cpu, gpu) = (Device::flex().autodiff(), wgpu().autodiff());
    let theirs = burn::nn::LstmConfig::new(I, I, true).init(&cpu);
    let ours = tidegate_burn::LstmConfig::new(I, I, true).init(&gpu).load_record(theirs.clone().into_record());
    let (mut theirs, mut ours) = (theirs.no_grad(), ours.no_grad());
    theirs.output_gate.hidden_transform = theirs.output_gate.hidden_transform.set_require_grad(true);
    ours.output_gate.hidden_transform = ours.output_gate.hidden_transform.set_require_grad(true);
    let expected = {
        let x: Tensor<3> = tensor(1, [T, I, B], &cpu);
        let (_, state) = theirs.forward(x.permute([2, 0, 1]), None);
        let gradients = state.cell.sum().backward();
        weight_gradients(&theirs.output_gate.hidden_transform, &gradients)
    };
    let x: Tensor<3> = tensor(1, [T, I, B], &gpu);
    let (_, state) = ours.forward(x.permute([2, 0, 1]), None);
    let gradients = state.cell.sum().backward();
    assert_close("parts", &weight_gradients(&ours.output_gate.hidden_transform, &gradients), &expected);
    assert!(ours.input_gate.input_transform.weight.val().grad(&gradients).is_none());
}

/// Shapes that come and go, more than are kept, and a graph that is dropped without a backward.
#[test]
fn shapes_come_and_go() {
    let gpu = wgpu();
    let ours = tidegate_burn::GruConfig::new(I, I, true).init(&gpu.clone().autodiff());
    let plain = ours.clone().valid();
    for _ in 0..2 {
        for steps in 1..=10 {
            let x: Tensor<3> = tensor(steps as u64, [B, steps, I], &gpu);
            let expected = plain.forward(x.clone(), None);
            let dropped = ours.forward(Tensor::from_inner(x.clone()), None);
            let y = ours.forward(Tensor::from_inner(x), None);
            drop(dropped);
            assert_close("shapes", &[("y".into(), read(y))], &[("y".into(), read(expected))]);
        }
    }
    tidegate_burn::release_buffers(&gpu).unwrap();
    plain.forward(tensor(1, [B, 3, I], &gpu), None).to_data();
}

/// Dropout drops between layers where gradients are tracked, by another mask each time, and not in inference.
#[test]
fn dropout() {
    let gpu = wgpu();
    let config = tidegate_burn::LstmConfig::new(I, 16, true).with_num_layers(2);
    let ours = config.clone().with_dropout(0.5).init(&gpu.clone().autodiff());
    let without = config.init(&gpu).load_record(ours.clone().into_record());
    let x: Tensor<3> = tensor(1, [B, T, I], &gpu);
    let run = || read(ours.try_forward(Tensor::from_inner(x.clone()), None, None).unwrap().0);
    let (first, second) = (run(), run());
    assert_ne!(first, second);
    let plain = read(ours.clone().valid().try_forward(x.clone(), None, None).unwrap().0);
    assert_ne!(plain, first);
    assert_eq!(plain, read(without.try_forward(x, None, None).unwrap().0));
}
