//! Bad input names the thing, both numbers, and what to do.

mod common;

use burn::nn;
use burn::nn::LstmState;
use burn::nn::activation::ActivationConfig;
use burn::tensor::{Device, FloatDType, Int, Tensor};
use tidegate_burn::{BiGru, Error, Gru, GruConfig, Lstm, LstmConfig, Rnn};

use common::{tensor, wgpu};

fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("this is refused").to_string()
}

#[test]
fn another_backend() {
    let cpu = Device::flex();
    let lstm = LstmConfig::new(3, 5, true).init(&cpu);
    let said = message(lstm.try_forward(tensor(1, [2, 7, 3], &cpu), None, None));
    assert!(said.contains("Flex") && said.contains("tidegate_burn::init"), "{said}");
    let said = message(lstm.try_forward(tensor(1, [2, 7, 3], &wgpu()), None, None));
    assert!(said.contains("`input weight` is on Device<Flex"), "{said}");
}

#[test]
fn shapes_and_types() {
    let gpu = wgpu();
    let lstm = LstmConfig::new(3, 5, true).init(&gpu);
    let said = message(lstm.try_forward(tensor(1, [2, 7, 4], &gpu), None, None));
    assert!(said.contains("`input` is [2, 7, 4], needed is [2, 7, 3]: [batch, sequence, features]"), "{said}");
    let state = || LstmState::new(tensor(1, [1, 3, 5], &gpu), tensor(1, [1, 3, 5], &gpu));
    let said = message(lstm.try_forward(tensor(1, [2, 7, 3], &gpu), Some(state()), None));
    assert!(said.contains("`initial hidden state` is [1, 3, 5], needed is [1, 2, 5]"), "{said}");
    let lengths = Tensor::<1, Int>::from_data([7, 7, 7], &gpu);
    let said = message(lstm.try_forward(tensor(1, [2, 7, 3], &gpu), None, Some(lengths)));
    assert!(said.contains("`lengths` is [3], needed is [2]"), "{said}");
    let half: Tensor<3> = tensor(1, [2, 7, 3], &gpu).cast(FloatDType::F16);
    let said = message(lstm.try_forward(half, None, None));
    assert!(said.contains("`input` is F16"), "{said}");
}

#[test]
fn options() {
    let gpu = wgpu();
    let said = message(GruConfig::new(3, 5, true).with_hidden_activation(ActivationConfig::Gelu).try_init(&gpu));
    assert!(said.contains("Gelu") && said.contains("Softsign"), "{said}");
    let said = message(Gru::try_from(nn::GruConfig::new(3, 5, true).with_clip(Some(0.5)).init(&gpu)));
    assert!(said.contains("clips h at 0.5"), "{said}");
    let said = message(Rnn::try_from(nn::RnnConfig::new(3, 5, true).with_clip(Some(0.5)).init(&gpu)));
    assert!(said.contains("clips h at 0.5"), "{said}");
    let mut both_ways = nn::BiGruConfig::new(3, 5, true).init(&gpu);
    both_ways.reverse.reset_after = false;
    let said = message(BiGru::try_from(both_ways));
    assert!(said.contains("directions differ"), "{said}");
    let two = LstmConfig::new(3, 5, true).with_num_layers(2).init(&gpu);
    let said = message(nn::Lstm::try_from(two));
    assert!(said.contains("one layer, this has 2"), "{said}");
    let said = message(LstmConfig::new(3, 5, true).with_clip(Some(-1.0)).try_init(&gpu));
    assert!(said.contains("clip"), "{said}");
    let mut lstm: Lstm = LstmConfig::new(3, 5, true).init(&gpu);
    lstm.cell_gate.hidden_transform.bias = None;
    let said = message(lstm.try_forward(tensor(1, [2, 7, 3], &gpu), None, None));
    assert!(said.contains("hidden bias"), "{said}");
}

#[test]
#[should_panic(expected = "`forward` is for one layer, this has 2")]
fn two_layers_by_forward() {
    let gpu = wgpu();
    LstmConfig::new(3, 5, true).with_num_layers(2).init(&gpu).forward(tensor(1, [2, 7, 3], &gpu), None);
}
