//! Outputs and all gradients against PyTorch in float64: the fixtures of tidegate's own tests, layers, directions and ragged rows.

mod common;

use std::fs;
use std::path::Path;

use burn::module::Param;
use burn::nn::activation::ActivationConfig;
use burn::nn::{GateController, LstmState, RnnState};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use safetensors::SafeTensors;
use tidegate_burn::{
    BiGru, BiGruConfig, BiLstm, BiLstmConfig, BiRnn, BiRnnConfig, Gru, GruConfig, Lstm, LstmConfig, Rnn, RnnConfig,
};

use common::{assert_close_values, wgpu};

/// The module of a case.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Module {
    Lstm(Lstm),
    BiLstm(BiLstm),
    Gru(Gru),
    BiGru(BiGru),
    Rnn(Rnn),
    BiRnn(BiRnn),
}

/// Gates by layer, in PyTorch's order.
type Layers<'a> = Vec<Vec<&'a mut GateController>>;

fn lstm_layers(lstm: &mut Lstm) -> Layers<'_> {
    let first = vec![&mut lstm.input_gate, lstm.forget_gate.as_mut().unwrap(), &mut lstm.cell_gate, &mut lstm.output_gate];
    let upper = lstm.upper.iter_mut();
    let upper = upper.map(|g| vec![&mut g.input_gate, g.forget_gate.as_mut().unwrap(), &mut g.cell_gate, &mut g.output_gate]);
    std::iter::once(first).chain(upper).collect()
}

fn gru_layers(gru: &mut Gru) -> Layers<'_> {
    let first = vec![&mut gru.reset_gate, &mut gru.update_gate, &mut gru.new_gate];
    let upper = gru.upper.iter_mut().map(|g| vec![&mut g.reset_gate, &mut g.update_gate, &mut g.new_gate]);
    std::iter::once(first).chain(upper).collect()
}

fn rnn_layers(rnn: &mut Rnn) -> Layers<'_> {
    std::iter::once(&mut rnn.gate).chain(&mut rnn.upper).map(|gate| vec![gate]).collect()
}

fn both<'a>(forward: Layers<'a>, reverse: Layers<'a>) -> Layers<'a> {
    forward.into_iter().zip(reverse).flat_map(|(forward, reverse)| [forward, reverse]).collect()
}

impl Module {
    fn layers(&mut self) -> Layers<'_> {
        match self {
            Self::Lstm(lstm) => lstm_layers(lstm),
            Self::BiLstm(lstm) => both(lstm_layers(&mut lstm.forward), lstm_layers(&mut lstm.reverse)),
            Self::Gru(gru) => gru_layers(gru),
            Self::BiGru(gru) => both(gru_layers(&mut gru.forward), gru_layers(&mut gru.reverse)),
            Self::Rnn(rnn) => rnn_layers(rnn),
            Self::BiRnn(rnn) => both(rnn_layers(&mut rnn.forward), rnn_layers(&mut rnn.reverse)),
        }
    }

    fn forward(&self, input: Tensor<3>, states: &[Tensor<3>], lengths: Option<Tensor<1, Int>>) -> (Tensor<3>, Vec<Tensor<3>>) {
        let hidden = states[0].clone();
        let lstm = |(output, state): (Tensor<3>, LstmState<3>)| (output, vec![state.hidden, state.cell]);
        let gru = |(output, hidden): (Tensor<3>, Tensor<3>)| (output, vec![hidden]);
        let rnn = |(output, state): (Tensor<3>, RnnState<3>)| (output, vec![state.hidden]);
        match self {
            Self::Lstm(m) => lstm(m.try_forward(input, Some(LstmState::new(states[1].clone(), hidden)), lengths).unwrap()),
            Self::BiLstm(m) => lstm(m.try_forward(input, Some(LstmState::new(states[1].clone(), hidden)), lengths).unwrap()),
            Self::Gru(m) => gru(m.try_forward(input, Some(hidden), lengths).unwrap()),
            Self::BiGru(m) => gru(m.try_forward(input, Some(hidden), lengths).unwrap()),
            Self::Rnn(m) => rnn(m.try_forward(input, Some(RnnState::new(hidden)), lengths).unwrap()),
            Self::BiRnn(m) => rnn(m.try_forward(input, Some(RnnState::new(hidden)), lengths).unwrap()),
        }
    }
}

/// One file of fixtures.
struct Case<'a> {
    name: String,
    tensors: SafeTensors<'a>,
    metadata: std::collections::HashMap<String, String>,
}

impl<'a> Case<'a> {
    fn read(name: String, bytes: &'a [u8]) -> Self {
        let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
        Self { name, tensors: SafeTensors::deserialize(bytes).unwrap(), metadata: metadata.metadata().clone().unwrap() }
    }

    fn number(&self, key: &str) -> usize {
        self.metadata[key].parse().unwrap()
    }

    fn is(&self, key: &str) -> bool {
        self.number(key) == 1
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let bytes = self.tensors.tensor(name).unwrap_or_else(|_| panic!("{}: no tensor {name}", self.name)).data();
        bytes.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let shape = self.tensors.tensor(name).unwrap().shape().to_vec();
        let values: Vec<f32> = self.values(name).into_iter().map(|value| value as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn lengths(&self, device: &Device) -> Option<Tensor<1, Int>> {
        let bytes = self.tensors.tensor("lengths").ok()?.data();
        let values: Vec<i32> = bytes.chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap())).collect();
        let count = values.len();
        Some(Tensor::from_data(TensorData::new(values, [count]), device))
    }

    /// Of another layout in memory than its shape says, where the module wants batch-first and the case is not.
    fn swapped(&self, tensor: Tensor<3>) -> Tensor<3> {
        let always_batch_first = self.metadata["cell"] == "gru" && !self.is("bidirectional");
        if always_batch_first && !self.is("batch_first") { tensor.swap_dims(0, 1) } else { tensor }
    }

    fn module(&self, device: &Device) -> Module {
        let (i, h, bias, layers) =
            (self.number("input_size"), self.number("hidden_size"), self.is("bias"), self.number("num_layers"));
        let (bidirectional, batch_first) = (self.is("bidirectional"), self.is("batch_first"));
        let relu = if self.metadata["cell"] == "rnn_relu" { ActivationConfig::Relu } else { ActivationConfig::Tanh };
        match (self.metadata["cell"].as_str(), bidirectional) {
            ("lstm", false) => {
                Module::Lstm(LstmConfig::new(i, h, bias).with_num_layers(layers).with_batch_first(batch_first).init(device))
            }
            ("lstm", true) => {
                Module::BiLstm(BiLstmConfig::new(i, h, bias).with_num_layers(layers).with_batch_first(batch_first).init(device))
            }
            ("gru", false) => Module::Gru(GruConfig::new(i, h, bias).with_num_layers(layers).init(device)),
            ("gru", true) => {
                Module::BiGru(BiGruConfig::new(i, h, bias).with_num_layers(layers).with_batch_first(batch_first).init(device))
            }
            (_, false) => {
                let config = RnnConfig::new(i, h, bias).with_num_layers(layers).with_batch_first(batch_first);
                Module::Rnn(config.with_hidden_activation(relu).init(device))
            }
            (_, true) => {
                let config = BiRnnConfig::new(i, h, bias).with_num_layers(layers).with_batch_first(batch_first);
                Module::BiRnn(config.with_hidden_activation(relu).init(device))
            }
        }
    }

    /// Calls `f` with each gate, PyTorch's ending of its tensors' names, and its place among the gates.
    fn each_gate(&self, module: &mut Module, mut f: impl FnMut(&mut GateController, &str, usize)) {
        let directions = if self.is("bidirectional") { 2 } else { 1 };
        for (index, gates) in module.layers().into_iter().enumerate() {
            let reverse = if index % directions == 1 { "_reverse" } else { "" };
            for (place, gate) in gates.into_iter().enumerate() {
                f(gate, &format!("l{}{reverse}", index / directions), place);
            }
        }
    }

    /// A gate's rows of one of PyTorch's tensors, as Burn has them: `[inputs, H]`.
    fn rows(&self, name: &str, place: usize) -> (Vec<f64>, [usize; 2]) {
        let hidden = self.number("hidden_size");
        let columns = self.tensors.tensor(name).unwrap().shape().get(1).copied().unwrap_or(1);
        let all = self.values(name);
        let rows = &all[place * hidden * columns..(place + 1) * hidden * columns];
        let transposed = (0..columns).flat_map(|c| (0..hidden).map(move |r| rows[r * columns + c]));
        (transposed.collect(), [columns, hidden])
    }

    fn run(&self, device: &Device) {
        let mut module = self.module(device);
        self.each_gate(&mut module, |gate, ending, place| {
            let data = |name: &str| {
                let (values, shape) = self.rows(name, place);
                (values.into_iter().map(|value| value as f32).collect::<Vec<_>>(), shape)
            };
            for (linear, side) in [(&mut gate.input_transform, "ih"), (&mut gate.hidden_transform, "hh")] {
                let (values, shape) = data(&format!("weight_{side}_{ending}"));
                linear.weight = Param::from_data(TensorData::new(values, shape), device);
                if linear.bias.is_some() {
                    let (values, shape) = data(&format!("bias_{side}_{ending}"));
                    linear.bias = Some(Param::from_data(TensorData::new(values, [shape[1]]), device));
                }
            }
        });

        let names = if self.metadata["cell"] == "lstm" { vec!["h", "c"] } else { vec!["h"] };
        let input: Tensor<3> = self.tensor("input", device).require_grad();
        let states: Vec<Tensor<3>> = names.iter().map(|name| self.tensor(&format!("{name}0"), device).require_grad()).collect();
        let (output, last) = module.forward(self.swapped(input.clone()), &states, self.lengths(device));
        let output = self.swapped(output);
        self.check("output", output.to_data(), "output");
        let mut loss = (output * self.tensor("d_output", device)).sum();
        for (name, state) in names.iter().zip(last) {
            self.check("final state", state.to_data(), &format!("{name}n"));
            loss = loss + (state * self.tensor(&format!("d_{name}n"), device)).sum();
        }
        let gradients = loss.backward();
        self.check("d_input", input.grad(&gradients).unwrap().to_data(), "d_input");
        for (name, state) in names.iter().zip(&states) {
            self.check("d_initial_state", state.grad(&gradients).unwrap().to_data(), &format!("d_{name}0"));
        }
        self.check_weights(&mut module, &gradients);
    }

    fn check(&self, what: &str, actual: TensorData, name: &str) {
        let actual: Vec<f64> = actual.iter().collect();
        assert_close_values(&format!("{}: {what}", self.name), &actual, &self.values(name));
    }

    fn check_weights(&self, module: &mut Module, gradients: &Gradients) {
        self.each_gate(module, |gate, ending, place| {
            for (linear, side) in [(&gate.input_transform, "ih"), (&gate.hidden_transform, "hh")] {
                let mut checked = vec![("weight", linear.weight.val().grad(gradients).unwrap().to_data())];
                checked.extend(linear.bias.as_ref().map(|bias| ("bias", bias.val().grad(gradients).unwrap().to_data())));
                for (kind, gradient) in checked {
                    let name = format!("d_{kind}_{side}_{ending}");
                    let actual: Vec<f64> = gradient.iter().collect();
                    assert_close_values(&format!("{}: {name}, gate {place}", self.name), &actual, &self.rows(&name, place).0);
                }
            }
        });
    }
}

#[test]
fn agrees_with_pytorch() {
    let device = wgpu().autodiff();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pytorch");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            let bytes = fs::read(&path).unwrap();
            Case::read(path.file_stem().unwrap().to_string_lossy().into(), &bytes).run(&device);
            cases += 1;
        }
    }
    assert!(cases >= 20, "only {cases} fixtures");
}
