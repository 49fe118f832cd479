//! A model of embedding, LSTM and linear head, trained by Burn's Adam: with Burn's LSTM on Burn's CPU backend, and with ours on the GPU.

mod common;

use burn::module::{Module, ModuleDisplay};
use burn::nn;
use burn::nn::loss::{MseLoss, Reduction};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Int, Tensor, TensorData};

use common::{tensor, wgpu};

const VOCABULARY: usize = 11;
const E: usize = 6;
const H: usize = 8;
const T: usize = 9;
const B: usize = 4;
const STEPS: usize = 50;

#[derive(Module, Debug)]
struct Model<L: Module + ModuleDisplay> {
    embedding: nn::Embedding,
    lstm: L,
    head: nn::Linear,
}

impl<L: Module + ModuleDisplay> Model<L> {
    fn new(lstm: L, device: &Device) -> Self {
        let embedding = nn::EmbeddingConfig::new(VOCABULARY, E).init(device);
        Self { embedding, lstm, head: nn::LinearConfig::new(H, 1).init(device) }
    }
}

/// The losses of all steps; `forward` is the LSTM's.
fn train<L: Module + ModuleDisplay>(
    mut model: Model<L>,
    device: &Device,
    forward: impl Fn(&L, Tensor<3>) -> Tensor<3>,
) -> Vec<f64> {
    let tokens: Vec<i32> = (0..B * T).map(|i| (i * i + 3 * i) as i32 % VOCABULARY as i32).collect();
    let tokens: Tensor<2, Int> = Tensor::from_data(TensorData::new(tokens, [B, T]), device);
    let targets: Tensor<3> = tensor(7, [B, T, 1], device);
    let mut optimizer = AdamConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..STEPS {
        let hidden = forward(&model.lstm, model.embedding.forward(tokens.clone()));
        let loss = MseLoss::new().forward(model.head.forward(hidden), targets.clone(), Reduction::Mean);
        losses.push(loss.to_data().iter::<f64>().next().unwrap());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.03, model, gradients);
    }
    losses
}

#[test]
fn same_losses_as_burns_lstm() {
    let (cpu, gpu) = (Device::flex().autodiff(), wgpu().autodiff());
    let theirs = Model::new(nn::LstmConfig::new(E, H, true).init(&cpu), &cpu);
    let ours = Model::new(tidegate_burn::LstmConfig::new(E, H, true).init(&gpu), &gpu).load_record(theirs.clone().into_record());
    let expected = train(theirs, &cpu, |lstm, x| lstm.forward(x, None).0);
    let actual = train(ours, &gpu, |lstm, x| lstm.forward(x, None).0);
    assert!(expected[STEPS - 1] < 0.5 * expected[0], "it does not learn: {expected:?}");
    for (step, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        assert!((actual - expected).abs() <= 2e-3 * expected, "step {step}: {actual}, Burn has {expected}");
    }
}
