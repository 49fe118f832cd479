//! Training with a network of f16: near f32, with a loss scale that grows, backs off and skips.

use std::sync::Arc;

use tidegate::train::{
    Batch, Inputs, Layout, LossScale, NonFinite, Objective, Optimizer, Readout, Targets, TrainConfig, Trainer, Weights,
};
use tidegate::{Cell, Context, Dtype, Elman, Gru, Lstm, Rnn, RnnConfig, SeqShape};

use crate::common::{self, uniform};

const SHAPE: SeqShape = SeqShape { seq_len: 6, batch_size: 3 };
const LENGTHS: [u32; 3] = [6, 2, 5];

/// A device with f16 in shaders, and the same without.
fn contexts() -> [Context; 2] {
    [common::context(), common::without_f16()]
}

fn trainer(rnn: Rnn, config: &TrainConfig, dtype: Dtype, optimizer: Optimizer) -> Trainer {
    let rnn = rnn.with_dtype(dtype).unwrap();
    let weights = Weights::init(&Layout::new(&rnn, config).unwrap(), 3);
    Trainer::new(&rnn, config, optimizer, &weights).unwrap()
}

fn narrow(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

fn write(trainer: &mut Trainer, seed: u64) {
    let config = trainer.config().clone();
    let words = |seed, n: usize, below: usize| -> Vec<u32> {
        uniform(seed, n, 1.0).iter().map(|x| ((x + 1.0) / 2.0 * below as f64) as u32).collect()
    };
    let tokens = words(seed, SHAPE.rows(), config.vocabulary.unwrap_or(1));
    let features = narrow(uniform(seed, SHAPE.rows() * trainer.rnn().config().input_size, 1.0));
    let labels = words(seed + 1, config.predictions(), config.out_features);
    let values = narrow(uniform(seed + 2, config.predictions() * config.out_features, 1.0));
    let inputs = if config.vocabulary.is_some() { Inputs::Tokens(&tokens) } else { Inputs::Features(&features) };
    let targets = match config.objective {
        Objective::CrossEntropy => Targets::Labels(&labels),
        Objective::MeanSquaredError => Targets::Values(&values),
    };
    let lengths = config.ragged.then_some(&LENGTHS[..]);
    trainer.write_batch(&Batch { lengths, ..Batch::new(inputs, targets) }).unwrap();
}

fn step(trainer: &mut Trainer, seed: u64) -> f32 {
    write(trainer, seed);
    trainer.step(1e-2).unwrap();
    *trainer.losses_blocking().unwrap().last().unwrap()
}

type Model = (Arc<dyn Cell>, RnnConfig, TrainConfig);

/// Odd sizes, so that halves share words with their neighbours.
fn models() -> Vec<Model> {
    let tokens = TrainConfig::new(SHAPE, Objective::CrossEntropy, 11).with_vocabulary(11).with_carry_state(true);
    let values = TrainConfig::new(SHAPE, Objective::MeanSquaredError, 3).with_readout(Readout::Final).with_ragged(true);
    vec![
        (Arc::new(Lstm::default()), RnnConfig::new(5, 9).with_num_layers(2).with_dropout(0.3), tokens),
        (Arc::new(Gru::default()), RnnConfig::new(3, 7).with_bidirectional(true).with_batch_first(true), values.clone()),
        (Arc::new(Elman::tanh()), RnnConfig::new(3, 7), values.with_readout(Readout::EveryStep)),
    ]
}

#[test]
fn losses_and_gradients_are_near_those_of_f32() {
    for ctx in contexts() {
        for (cell, network, config) in models() {
            let rnn = Rnn::new(&ctx, cell, network).unwrap();
            let [mut whole, mut half] =
                [Dtype::F32, Dtype::F16].map(|dtype| trainer(rnn.clone(), &config, dtype, Optimizer::adam()));
            assert_eq!((whole.loss_scale(), half.loss_scale()), (None, Some(65_536.0)));
            let what = whole.rnn().cell().name().to_string();
            let mut differ = false;
            for at in 0..12 {
                let [a, b] = [&mut whole, &mut half].map(|trainer| step(trainer, 10 * at));
                differ |= a != b;
                assert!((a - b).abs() <= 4e-3 * (1.0 + a), "{what}, step {at}: {a} in f32, {b} in f16");
                if at > 0 {
                    continue;
                }
                let [a, b] = [&whole, &half].map(|trainer| pollster::block_on(ctx.download([trainer.d_params()])).unwrap());
                let largest = a[0].iter().fold(0f32, |most, d| most.max(d.abs()));
                for (i, (a, b)) in a[0].iter().zip(&b[0]).enumerate() {
                    assert!((a - b).abs() <= 4e-3 * largest, "{what}: gradient {i} is {a} in f32, {b} in f16");
                }
            }
            assert!(differ && half.skipped() == 0, "{what}");
            write(&mut whole, 7);
            write(&mut half, 7);
            let [a, b] = [&mut whole, &mut half].map(|trainer| trainer.evaluate_blocking().unwrap());
            assert!((a - b).abs() <= 6e-3 * (1.0 + a), "{what}: {a} in f32, {b} in f16");
        }
    }
}

fn features() -> TrainConfig {
    TrainConfig::new(SHAPE, Objective::MeanSquaredError, 1)
}

fn lstm(ctx: &Context) -> Rnn {
    Rnn::new(ctx, Lstm::default(), RnnConfig::new(3, 7)).unwrap()
}

fn scaled(first: f32, growth_interval: u32) -> TrainConfig {
    features().with_loss_scale(LossScale { first, growth_interval })
}

/// Gradients of the network of the first step, by a head so small that without a scale they are nothing in f16.
fn small_gradients(ctx: &Context, dtype: Dtype, first: f32) -> Vec<f32> {
    let mut trainer = trainer(lstm(ctx), &scaled(first, 2000), dtype, Optimizer::sgd(0.0));
    let mut weights = trainer.weights_blocking().unwrap();
    weights.set("head.weight", &[1e-8; 7]).unwrap();
    trainer.set_weights(&weights).unwrap();
    step(&mut trainer, 1);
    let range = trainer.layout().find("rnn.weight_hh_l0").unwrap().range.clone();
    let [d_params] = pollster::block_on(ctx.download([trainer.d_params()])).unwrap();
    d_params[range].to_vec()
}

#[test]
fn a_scale_keeps_small_gradients() {
    for ctx in contexts() {
        let truth = small_gradients(&ctx, Dtype::F32, 1.0);
        let largest = truth.iter().fold(0f32, |most, d| most.max(d.abs()));
        let off = |first| {
            let found = small_gradients(&ctx, Dtype::F16, first);
            truth.iter().zip(found).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max)
        };
        let [with, without] = [off(2f32.powi(26)), off(1.0)];
        assert!(with <= 4e-3 && without > 0.5, "off by {with} with a scale, {without} without");
    }
}

#[test]
fn what_overflows_is_skipped_until_the_scale_fits() {
    for ctx in contexts() {
        let first = 2f32.powi(26);
        // Backing off is no error: the loss is finite.
        let config = scaled(first, 2000).with_non_finite(NonFinite::Error);
        let mut trainer = trainer(lstm(&ctx), &config, Dtype::F16, Optimizer::adam());
        let mut skipped = 0;
        loop {
            let before = (trainer.weights_blocking().unwrap(), trainer.loss_scale().unwrap());
            let loss = step(&mut trainer, 1);
            assert!(loss.is_finite());
            let after = (trainer.weights_blocking().unwrap(), trainer.loss_scale().unwrap());
            if trainer.skipped() == skipped {
                assert!(before.0 != after.0 && before.1 == after.1, "a step that was taken");
                break;
            }
            skipped += 1;
            assert_eq!((trainer.skipped(), after.1), (skipped, before.1 / 2.0));
            assert!(before.0 == after.0, "a step that was skipped changed weights");
        }
        assert!((2..26).contains(&skipped), "{skipped} steps were skipped");
        // As if it had started there: what was skipped left nothing behind, and Adam's corrections do not count it.
        let config = scaled(first / 2f32.powi(skipped as i32), 2000);
        let mut fresh = self::trainer(lstm(&ctx), &config, Dtype::F16, Optimizer::adam());
        step(&mut fresh, 1);
        for (a, b) in trainer.weights_blocking().unwrap().values().iter().zip(fresh.weights_blocking().unwrap().values()) {
            assert!((a - b).abs() <= 1e-6, "{a} after skipped steps, {b} without");
        }
    }
}

#[test]
fn the_scale_doubles_after_good_steps_and_a_bad_loss_leaves_it() {
    let ctx = common::context();
    let mut trainer = trainer(lstm(&ctx), &scaled(16.0, 3), Dtype::F16, Optimizer::sgd(0.0));
    let mut scales = Vec::new();
    for at in 0..7 {
        step(&mut trainer, at);
        scales.push(trainer.loss_scale().unwrap());
        // Between the good ones: not counted.
        let values = [f32::NAN; 18];
        let inputs = narrow(uniform(9, SHAPE.rows() * 3, 1.0));
        trainer.write_batch(&Batch::new(Inputs::Features(&inputs), Targets::Values(&values))).unwrap();
        trainer.step(1e-2).unwrap();
        assert!(trainer.losses_blocking().unwrap()[0].is_nan());
    }
    assert_eq!(scales, [16.0, 16.0, 32.0, 32.0, 32.0, 64.0, 64.0]);
    assert_eq!(trainer.skipped(), 7);
}

/// Powers of two do not round: each step's gradients are those of a scale that never moves, the embedding's too, whichever scale the
/// step has and the next will have.
#[test]
fn a_scale_that_moves_leaves_gradients_as_they_are() {
    let ctx = common::context();
    for (cell, network, config) in models() {
        let rnn = Rnn::new(&ctx, cell, network).unwrap();
        let [mut still, mut moving] = [(4096.0, u32::MAX), (256.0, 1)].map(|(first, growth_interval)| {
            let config = config.clone().with_loss_scale(LossScale { first, growth_interval });
            trainer(rnn.clone(), &config, Dtype::F16, Optimizer::sgd(0.0))
        });
        for at in 0..6 {
            let [a, b] = [&mut still, &mut moving].map(|trainer| {
                step(trainer, 10 * at);
                let [d_params] = pollster::block_on(ctx.download([trainer.d_params()])).unwrap();
                d_params
            });
            for spec in still.layout().iter() {
                let (a, b) = (&a[spec.range.clone()], &b[spec.range.clone()]);
                let largest = a.iter().fold(0f32, |most, d| most.max(d.abs()));
                let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(largest > 0.0 && off <= 2e-3 * largest, "step {at}, {}: off by {off} of {largest}", spec.name);
            }
            let scales = [&still, &moving].map(|trainer| trainer.loss_scale().unwrap());
            assert_eq!(scales, [4096.0, 512.0 * 2f32.powi(at as i32)]);
        }
        assert_eq!([still.skipped(), moving.skipped()], [0; 2]);
    }
}

/// g: a good step; !: its gradients overflow at any scale; n: its loss is NaN.
#[test]
fn the_scale_grows_and_backs_off_at_the_steps_of_grad_scaler() {
    let events = "gg!gggg!!gngggng";
    let expected = [16, 16, 8, 8, 8, 16, 16, 8, 4, 4, 4, 4, 8, 8, 8, 8].map(|scale| scale as f32);
    let ctx = common::context();
    let mut trainer = trainer(lstm(&ctx), &scaled(16.0, 3), Dtype::F16, Optimizer::sgd(0.0));
    let inputs = narrow(uniform(9, SHAPE.rows() * 3, 1.0));
    let mut skipped = 0;
    for (at, (event, expected)) in events.chars().zip(expected).enumerate() {
        let values = match event {
            'g' => narrow(uniform(at as u64, SHAPE.rows(), 1.0)),
            '!' => vec![1e17; SHAPE.rows()],
            _ => vec![f32::NAN; SHAPE.rows()],
        };
        let before = trainer.weights_blocking().unwrap();
        trainer.write_batch(&Batch::new(Inputs::Features(&inputs), Targets::Values(&values))).unwrap();
        trainer.step(0.5).unwrap();
        assert_eq!(trainer.losses_blocking().unwrap()[0].is_nan(), event == 'n');
        let after = trainer.weights_blocking().unwrap();
        skipped += u64::from(event != 'g');
        assert_eq!((trainer.loss_scale(), trainer.skipped()), (Some(expected), skipped), "step {at} of {events}");
        let [d_params] = pollster::block_on(ctx.download([trainer.d_params()])).unwrap();
        for (i, (before, after)) in before.values().iter().zip(after.values()).enumerate() {
            let expected = if event == 'g' { before - 0.5 * d_params[i] } else { *before };
            assert!((after - expected).abs() <= 1e-6, "step {at} of {events}: weight {i} is {after}, not {expected}");
        }
    }
}

#[test]
fn the_largest_scale_stays() {
    let ctx = common::context();
    let mut trainer = trainer(lstm(&ctx), &scaled(2f32.powi(63), 1), Dtype::F16, Optimizer::sgd(0.0));
    let mut weights = trainer.weights_blocking().unwrap();
    weights.set("head.weight", &[1e-20; 7]).unwrap();
    trainer.set_weights(&weights).unwrap();
    let mut scales = Vec::new();
    for at in 0..3 {
        write(&mut trainer, at);
        trainer.step(0.0).unwrap();
        trainer.losses_blocking().unwrap();
        scales.push(trainer.loss_scale().unwrap());
    }
    assert_eq!((scales, trainer.skipped()), (vec![2f32.powi(64); 3], 0));
}

/// Where no scale is small enough the log says so, and the scale stays what can grow again.
#[test]
fn what_no_scale_mends_is_in_the_log() {
    let ctx = common::context();
    let mut trainer = trainer(lstm(&ctx), &scaled(2.0, 3), Dtype::F16, Optimizer::sgd(0.0));
    let (inputs, values) = (narrow(uniform(9, SHAPE.rows() * 3, 1.0)), [1e17; 18]);
    let mut logged = Vec::new();
    for _ in 0..30 {
        trainer.write_batch(&Batch::new(Inputs::Features(&inputs), Targets::Values(&values))).unwrap();
        trainer.step(1e-2).unwrap();
        logged.extend(trainer.losses_blocking().unwrap());
    }
    assert!(logged[0].is_finite() && logged[1..].iter().all(|loss| !loss.is_finite()), "{logged:?}");
    assert_eq!((trainer.skipped(), trainer.loss_scale()), (30, Some(2f32.powi(-24))));
}

#[test]
fn a_checkpoint_keeps_the_scale() {
    let ctx = common::context();
    let config = scaled(16.0, 3);
    let mut trainer = trainer(lstm(&ctx), &config, Dtype::F16, Optimizer::adam());
    for at in 0..4 {
        step(&mut trainer, at);
    }
    // Not read since, the file has it all the same.
    write(&mut trainer, 4);
    trainer.step(1e-2).unwrap();
    let checkpoint = trainer.checkpoint_blocking("").unwrap();
    let mut again = self::trainer(lstm(&ctx), &config, Dtype::F16, Optimizer::adam());
    again.restore(&checkpoint).unwrap();
    assert_eq!(again.loss_scale(), Some(32.0));
    for at in 5..7 {
        assert_eq!(step(&mut trainer, at), step(&mut again, at));
        assert_eq!((trainer.loss_scale(), again.loss_scale()), (Some(64.0), Some(64.0)), "step {at}");
    }
    assert!(trainer.checkpoint_blocking("").unwrap() == again.checkpoint_blocking("").unwrap());

    // The weights are f32 in either: one goes on from the other's file.
    let mut whole = self::trainer(lstm(&ctx), &config, Dtype::F32, Optimizer::adam());
    whole.restore(&checkpoint).unwrap();
    step(&mut whole, 5);
    again.restore(&whole.checkpoint_blocking("").unwrap()).unwrap();
    assert_eq!((again.steps(), again.loss_scale()), (6, Some(16.0)));
    assert!(step(&mut again, 6).is_finite());
}

#[test]
fn scales_that_round_are_refused() {
    let ctx = common::context();
    for first in [0.0, 3.0, -2.0, f32::NAN, f32::INFINITY, 2f32.powi(65), 2f32.powi(-25)] {
        let (rnn, config) = (lstm(&ctx).with_dtype(Dtype::F16).unwrap(), scaled(first, 1));
        let weights = Weights::init(&Layout::new(&rnn, &config).unwrap(), 3);
        let error = Trainer::new(&rnn, &config, Optimizer::adam(), &weights).unwrap_err().to_string();
        assert!(error.contains("loss_scale.first") && error.contains("power of two"), "{error}");
    }
    let (rnn, config) = (lstm(&ctx), scaled(2.0, 0));
    let weights = Weights::init(&Layout::new(&rnn, &config).unwrap(), 3);
    let error = Trainer::new(&rnn, &config, Optimizer::adam(), &weights).unwrap_err().to_string();
    assert!(error.contains("loss_scale.growth_interval"), "{error}");
}
