//! Outputs and all gradients against `burn::nn` on Burn's CPU backend, with the weights of one record.

mod common;

use burn::module::Module;
use burn::nn;
use burn::nn::activation::ActivationConfig;
use burn::nn::{LstmState, RnnState};
use burn::tensor::{Device, Tensor};

use common::{Named, assert_close, read, tensor, weight_gradients, wgpu};

/// Sizes with nothing in common but that no tile divides them.
const I: usize = 3;
const H: usize = 5;
const T: usize = 7;
const B: usize = 2;

/// What a module is called with, as leaves of a graph, and what its results are multiplied with for a loss.
struct Data {
    input: Tensor<3>,
    hidden: Tensor<3>,
    cell: Tensor<3>,
    d_output: Tensor<3>,
    d_hidden: Tensor<3>,
    d_cell: Tensor<3>,
}

impl Data {
    fn new(batch_first: bool, directions: usize, device: &Device) -> Self {
        let (device, sequence) = (&device.clone().autodiff(), if batch_first { [B, T] } else { [T, B] });
        let [a, b] = sequence;
        let state = [directions, B, H];
        Self {
            input: tensor(1, [a, b, I], device).require_grad(),
            hidden: tensor(2, state, device).require_grad(),
            cell: tensor(3, state, device).require_grad(),
            d_output: tensor(4, [a, b, directions * H], device),
            d_hidden: tensor(5, state, device),
            d_cell: tensor(6, state, device),
        }
    }

    /// Results and gradients of what a module gave: output, last h, last c.
    fn values(&self, module: &impl Module, output: Tensor<3>, hidden: Option<Tensor<3>>, cell: Option<Tensor<3>>) -> Vec<Named> {
        let mut values = vec![("output".into(), read(output.clone()))];
        let mut loss = (output * self.d_output.clone()).sum();
        for (name, state, d) in [("hidden", hidden, &self.d_hidden), ("cell", cell, &self.d_cell)] {
            let Some(state) = state else { continue };
            values.push((name.into(), read(state.clone())));
            loss = loss + (state * d.clone()).sum();
        }
        let gradients = loss.backward();
        for (name, leaf) in [("d_input", &self.input), ("d_hidden", &self.hidden), ("d_cell", &self.cell)] {
            values.extend(leaf.grad(&gradients).map(|gradient| (name.into(), read(gradient))));
        }
        values.extend(weight_gradients(module, &gradients));
        values
    }
}

/// `[1, B, H]` and back.
fn flat(state: Tensor<3>) -> Tensor<2> {
    state.squeeze_dim(0)
}

fn lstm_state(data: &Data) -> LstmState<2> {
    LstmState::new(flat(data.cell.clone()), flat(data.hidden.clone()))
}

/// One LSTM in Burn on the CPU and here on the GPU.
fn lstm(case: &str, burn: &nn::LstmConfig, ours: &tidegate_burn::LstmConfig) {
    let (cpu, gpu) = (Device::flex(), wgpu());
    let theirs = burn.init(&cpu.clone().autodiff());
    let ours = ours.init(&gpu.clone().autodiff()).load_record(theirs.clone().into_record());
    let data = Data::new(burn.batch_first, 1, &cpu);
    let (output, state) = theirs.forward(data.input.clone(), Some(lstm_state(&data)));
    let expected = data.values(&theirs, output, Some(state.hidden.unsqueeze()), Some(state.cell.unsqueeze()));
    let data = Data::new(burn.batch_first, 1, &gpu);
    let (output, state) = ours.forward(data.input.clone(), Some(lstm_state(&data)));
    let actual = data.values(&ours, output, Some(state.hidden.unsqueeze()), Some(state.cell.unsqueeze()));
    assert_close(case, &actual, &expected);
}

#[test]
fn lstm_as_burn() {
    let (burn, ours) = (nn::LstmConfig::new(I, H, true), tidegate_burn::LstmConfig::new(I, H, true));
    lstm("defaults", &burn, &ours);
    lstm(
        "time-major, in reverse",
        &burn.clone().with_batch_first(false).with_reverse(true),
        &ours.clone().with_batch_first(false).with_reverse(true),
    );
    lstm(
        "coupled, clipped",
        &burn.clone().with_input_forget(true).with_clip(Some(0.3)),
        &ours.clone().with_input_forget(true).with_clip(Some(0.3)),
    );
    let (burn, ours) = (nn::LstmConfig::new(I, H, false), tidegate_burn::LstmConfig::new(I, H, false));
    lstm(
        "no bias, other activations",
        &burn.with_cell_activation(ActivationConfig::Softsign).with_hidden_activation(ActivationConfig::Identity),
        &ours.with_cell_activation(ActivationConfig::Softsign).with_hidden_activation(ActivationConfig::Identity),
    );
}

#[test]
fn bilstm_as_burn() {
    let (cpu, gpu) = (Device::flex(), wgpu());
    for batch_first in [true, false] {
        let theirs = nn::BiLstmConfig::new(I, H, true).with_batch_first(batch_first).init(&cpu.clone().autodiff());
        let config = tidegate_burn::BiLstmConfig::new(I, H, true).with_batch_first(batch_first);
        let ours = config.init(&gpu.clone().autodiff()).load_record(theirs.clone().into_record());
        let state = |data: &Data| Some(LstmState::new(data.cell.clone(), data.hidden.clone()));
        let data = Data::new(batch_first, 2, &cpu);
        let (output, last) = theirs.forward(data.input.clone(), state(&data));
        let expected = data.values(&theirs, output, Some(last.hidden), Some(last.cell));
        let data = Data::new(batch_first, 2, &gpu);
        let (output, last) = ours.forward(data.input.clone(), state(&data));
        let actual = data.values(&ours, output, Some(last.hidden), Some(last.cell));
        assert_close(&format!("batch_first {batch_first}"), &actual, &expected);
    }
}

#[test]
fn gru_as_burn() {
    let (cpu, gpu) = (Device::flex(), wgpu());
    for (reset_after, bias) in [(true, true), (false, true), (true, false)] {
        let theirs = nn::GruConfig::new(I, H, bias).with_reset_after(reset_after).init(&cpu.clone().autodiff());
        let config = tidegate_burn::GruConfig::new(I, H, bias).with_reset_after(reset_after);
        let ours = config.init(&gpu.clone().autodiff()).load_record(theirs.clone().into_record());
        let data = Data::new(true, 1, &cpu);
        let output = theirs.forward(data.input.clone(), Some(flat(data.hidden.clone())));
        let expected = data.values(&theirs, output, None, None);
        let data = Data::new(true, 1, &gpu);
        let output = ours.forward(data.input.clone(), Some(flat(data.hidden.clone())));
        let actual = data.values(&ours, output, None, None);
        assert_close(&format!("reset_after {reset_after}, bias {bias}"), &actual, &expected);
    }
}

#[test]
fn bigru_as_burn() {
    let (cpu, gpu) = (Device::flex(), wgpu());
    let theirs = nn::BiGruConfig::new(I, H, true).with_batch_first(false).init(&cpu.clone().autodiff());
    let config = tidegate_burn::BiGruConfig::new(I, H, true).with_batch_first(false);
    let ours = config.init(&gpu.clone().autodiff()).load_record(theirs.clone().into_record());
    let data = Data::new(false, 2, &cpu);
    let (output, last) = theirs.forward(data.input.clone(), Some(data.hidden.clone()));
    let expected = data.values(&theirs, output, Some(last), None);
    let data = Data::new(false, 2, &gpu);
    let (output, last) = ours.forward(data.input.clone(), Some(data.hidden.clone()));
    let actual = data.values(&ours, output, Some(last), None);
    assert_close("bigru", &actual, &expected);
}

#[test]
fn rnn_as_burn() {
    let (cpu, gpu) = (Device::flex(), wgpu());
    let activations = [(ActivationConfig::Tanh, false), (ActivationConfig::Relu, true), (ActivationConfig::Identity, false)];
    for (activation, reverse) in activations {
        let case = format!("{activation:?}, reverse {reverse}");
        let theirs = nn::RnnConfig::new(I, H, true)
            .with_hidden_activation(activation.clone())
            .with_reverse(reverse)
            .init(&cpu.clone().autodiff());
        let config = tidegate_burn::RnnConfig::new(I, H, true).with_hidden_activation(activation).with_reverse(reverse);
        let ours = config.init(&gpu.clone().autodiff()).load_record(theirs.clone().into_record());
        let state = |data: &Data| Some(RnnState::new(flat(data.hidden.clone())));
        let data = Data::new(true, 1, &cpu);
        let (output, last) = theirs.forward(data.input.clone(), state(&data));
        let expected = data.values(&theirs, output, Some(last.hidden.unsqueeze()), None);
        let data = Data::new(true, 1, &gpu);
        let (output, last) = ours.forward(data.input.clone(), state(&data));
        let actual = data.values(&ours, output, Some(last.hidden.unsqueeze()), None);
        assert_close(&case, &actual, &expected);
    }
}

#[test]
fn birnn_as_burn() {
    let (cpu, gpu) = (Device::flex(), wgpu());
    let theirs = nn::BiRnnConfig::new(I, H, true).init(&cpu.clone().autodiff());
    let ours =
        tidegate_burn::BiRnnConfig::new(I, H, true).init(&gpu.clone().autodiff()).load_record(theirs.clone().into_record());
    let state = |data: &Data| Some(RnnState::new(data.hidden.clone()));
    let data = Data::new(true, 2, &cpu);
    let (output, last) = theirs.forward(data.input.clone(), state(&data));
    let expected = data.values(&theirs, output, Some(last.hidden), None);
    let data = Data::new(true, 2, &gpu);
    let (output, last) = ours.forward(data.input.clone(), state(&data));
    let actual = data.values(&ours, output, Some(last.hidden), None);
    assert_close("birnn", &actual, &expected);
}

/// On the device without autodiff, from zeros, as on the one with it; and a record that goes back to Burn.
#[test]
fn inference_and_records() {
    let (cpu, gpu) = (Device::flex(), wgpu());
    let ours = tidegate_burn::LstmConfig::new(I, H, true).init(&gpu);
    let theirs = nn::LstmConfig::new(I, H, true).init(&cpu).load_record(ours.clone().into_record());
    let (expected, _) = theirs.forward(tensor(1, [B, T, I], &cpu), None);
    let (actual, _) = ours.forward(tensor(1, [B, T, I], &gpu), None);
    assert_close("inference", &[("y".into(), read(actual.clone()))], &[("y".into(), read(expected))]);

    let moved = tidegate_burn::Lstm::try_from(nn::Lstm::try_from(ours).unwrap()).unwrap();
    let (again, _) = moved.forward(tensor(1, [B, T, I], &gpu), None);
    assert_eq!(read(again), read(actual));
}
