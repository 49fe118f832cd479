//! The GRUs of RNNoise on many streams of audio at once: strictly against float64, and beside the crate nnnoiseless, which has
//! its own code for the same weights.

mod audio;
#[path = "../common/mod.rs"]
mod common;
mod network;

use std::fs;

use network::{BANDS, FEATURES, GruLayer, Network};
use nnnoiseless::{DenoiseFeatures, DenoiseState, RnnModel};
use safetensors::SafeTensors;
use tidegate::check::Tolerance;
use tidegate::{Context, Mode, Rnn, SeqShape, Sequence, Strategy, reference};

/// 1 s in frames of 10 ms.
const FRAMES: usize = 100;

/// The crate interpolates sigmoid and tanh from a table of 201 rounded values. Measured: 6e-6 over the 64 streams, 3e-6 on the
/// recording.
const BESIDE_THE_CRATE: f64 = 2e-5;
/// What f32 in three GRUs on top of each other adds up to. Measured: 2e-6.
const BESIDE_FLOAT64: f64 = 1e-5;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(common::path("tests/fixtures/rnnoise").join(name)).unwrap()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

/// A GRU over all frames in float64.
fn on_the_reference(gru: &GruLayer, input: &[f64], shape: SeqShape) -> Vec<f64> {
    let (params, seq) = (wide(gru.params.values()), Sequence::new(shape, input));
    reference::forward(&gru.cell, &gru.config, &params, &seq, Mode::Inference).unwrap().output.output
}

/// The same on the GPU, checked against float64 on the same f32 input.
fn on_the_gpu(ctx: &Context, strategy: Strategy, gru: &GruLayer, input: &[f64], shape: SeqShape) -> Vec<f64> {
    let rnn = Rnn::new(ctx, gru.cell.clone(), gru.config.clone()).unwrap().with_strategy(strategy);
    let input: Vec<f32> = input.iter().map(|&x| x as f32).collect();
    let output = rnn.forward_blocking(&rnn.upload(&gru.params).unwrap(), &Sequence::new(shape, &input)).unwrap().output;
    let truth = on_the_reference(gru, &wide(&input), shape);
    let name = format!("GRU of {} units under {}", gru.config.hidden_size, strategy.name());
    Tolerance::new(&gru.config, shape, false).compare(&name, &truth, &output).unwrap();
    wide(&output)
}

/// The largest difference, and that it is no larger than allowed.
fn close(what: &str, truth: &[f64], actual: &[f64], allowed: f64) {
    assert_eq!(truth.len(), actual.len(), "{what}");
    let differences = || truth.iter().zip(actual).map(|(a, b)| (a - b).abs());
    let largest = differences().fold(0.0, f64::max);
    println!("{what}: {} values, largest difference {largest:.1e}", truth.len());
    assert!(differences().all(|difference| difference <= allowed), "{what}: {largest:e}, allowed {allowed:e}");
}

/// Gains and voice on features that the crate made, beside what it made of them.
#[test]
fn gains_are_those_that_the_crate_gave() {
    let ctx = common::context();
    let network = Network::new(&fixture("weights.rnn")).unwrap();
    let bytes = fixture("recorded.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let [features, gains, vad] = ["features", "gains", "vad"].map(|name| {
        let words = file.tensor(name).unwrap().data().as_chunks::<4>().0;
        wide(&words.iter().map(|&word| f32::from_le_bytes(word)).collect::<Vec<_>>())
    });
    let shape = SeqShape { seq_len: FRAMES, batch_size: vad.len() / FRAMES };
    let truth = network.run(&features, |gru, input| on_the_reference(gru, input, shape));
    for strategy in Strategy::all(&ctx) {
        let ours = network.run(&features, |gru, input| on_the_gpu(&ctx, strategy, gru, input, shape));
        let name = strategy.name();
        close(&format!("{name}, gains, float64"), &truth.gains, &ours.gains, BESIDE_FLOAT64);
        close(&format!("{name}, gains, the crate"), &gains, &ours.gains, BESIDE_THE_CRATE);
        close(&format!("{name}, voice, the crate"), &vad, &ours.vad, BESIDE_THE_CRATE);
    }
}

/// 64 streams in one batch, each beside a denoiser of the crate's that runs along on the same weights and audio.
#[test]
fn sixty_four_streams_beside_as_many_denoisers() {
    let streams = 64;
    let shape = SeqShape { seq_len: FRAMES, batch_size: streams };
    let file = fixture("weights.rnn");
    let model = RnnModel::from_bytes(&file).unwrap();
    let mut features = vec![0.0; shape.rows() * FEATURES];
    let mut vad = vec![0.0; shape.rows()];
    for b in 0..streams {
        let mut front_end = DenoiseFeatures::new();
        let mut denoiser = DenoiseState::with_model(&model);
        let mut denoised = [0.0; DenoiseState::FRAME_SIZE];
        let samples = audio::speech(b, FRAMES * denoised.len());
        for (t, frame) in samples.chunks_exact(denoised.len()).enumerate() {
            front_end.shift_and_filter_input(frame);
            assert!(!front_end.compute_frame_features(), "the crate skips its network in silence");
            let row = t * streams + b;
            features[row * FEATURES..][..FEATURES].copy_from_slice(&wide(front_end.features()));
            vad[row] = denoiser.process_frame(&mut denoised, frame).into();
        }
    }

    let ctx = common::context();
    let network = Network::new(&file).unwrap();
    let ours = network.run(&features, |gru, input| on_the_gpu(&ctx, Strategy::Auto, gru, input, shape));
    let truth = network.run(&features, |gru, input| on_the_reference(gru, input, shape));
    close("gains, float64", &truth.gains, &ours.gains, BESIDE_FLOAT64);
    close("voice, float64", &truth.vad, &ours.vad, BESIDE_FLOAT64);
    close("voice, the crate", &vad, &ours.vad, BESIDE_THE_CRATE);

    // Nothing of this would be seen if all streams were alike, or all noise.
    let speaking = |b: usize| (0..FRAMES).filter(|t| vad[t * streams + b] > 0.5).count();
    let spoken: Vec<usize> = (0..streams).map(speaking).collect();
    println!("frames with a voice: {spoken:?}");
    assert!(spoken.iter().filter(|&&frames| (10..90).contains(&frames)).count() > streams / 2, "{spoken:?}");
    assert_eq!(ours.gains.len(), shape.rows() * BANDS);
}
