//! Steps with a NaN or an infinity: seen in the log, not taken, counted, and not stored.

use tidegate::train::{
    Batch, Checkpoint, Clip, Inputs, Layout, NonFinite, Objective, Optimizer, Targets, TrainConfig, Trainer, Weights,
};
use tidegate::{Context, Error, Lstm, Rnn, RnnConfig, SeqShape};

use crate::common::{self, uniform};

const SHAPE: SeqShape = SeqShape { seq_len: 4, batch_size: 2 };

struct Data {
    features: Vec<f32>,
    values: Vec<f32>,
}

fn data(step: u64) -> Data {
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    Data { features: narrow(uniform(step, SHAPE.rows() * 3, 1.0)), values: narrow(uniform(step + 99, SHAPE.rows(), 1.0)) }
}

fn config() -> TrainConfig {
    TrainConfig::new(SHAPE, Objective::MeanSquaredError, 1)
}

fn trainer(ctx: &Context, config: &TrainConfig, optimizer: Optimizer) -> Trainer {
    let rnn = Rnn::new(ctx, Lstm::default(), RnnConfig::new(3, 4)).unwrap();
    let weights = Weights::init(&Layout::new(&rnn, config).unwrap(), 1);
    Trainer::new(&rnn, config, optimizer, &weights).unwrap()
}

fn step(trainer: &mut Trainer, data: &Data) {
    trainer.write_batch(&Batch::new(Inputs::Features(&data.features), Targets::Values(&data.values))).unwrap();
    trainer.step(1e-2).unwrap();
}

fn optimizers() -> [Optimizer; 3] {
    [Optimizer::sgd(0.9), Optimizer::adam(), Optimizer::adamw()]
}

/// What makes a step bad: a NaN feature, an infinite one of no harm but to the state, a target whose square overflows, and a target
/// whose loss is finite and whose gradients' norm is not.
fn spoil(data: &mut Data, how: usize) {
    match how {
        0 => data.features[5] = f32::NAN,
        1 => data.values[3] = f32::INFINITY,
        2 => data.values[3] = 1e30,
        _ => data.features.fill(f32::INFINITY),
    }
}

#[test]
fn a_bad_step_changes_nothing_and_is_seen() {
    let ctx = common::context();
    for optimizer in optimizers() {
        for clip in [None, Some(Clip::Norm(1.0)), Some(Clip::Value(0.1))] {
            let config = clip.map_or(config(), |clip| config().with_clip(clip));
            let mut trainer = trainer(&ctx, &config, optimizer);
            // Without the bad steps among them.
            let mut clean = self::trainer(&ctx, &config, optimizer);
            for at in 0..8 {
                let mut data = data(at);
                let is_bad = at % 2 == 1;
                let before = trainer.weights_blocking().unwrap();
                if is_bad {
                    spoil(&mut data, at as usize / 2);
                } else {
                    step(&mut clean, &data);
                }
                step(&mut trainer, &data);
                let loss = trainer.losses_blocking().unwrap()[0];
                let after = trainer.weights_blocking().unwrap();
                let what = format!("{optimizer:?}, {clip:?}, step {at}");
                assert_eq!(loss.is_finite(), !is_bad, "{what}: {loss}");
                assert_eq!(before == after, is_bad, "{what}");
                assert_eq!(trainer.skipped(), at.div_ceil(2), "{what}");
                assert!(after.values().iter().all(|value| value.is_finite()), "{what}");
            }
            // Adam's corrections count what was taken.
            for (a, b) in trainer.weights_blocking().unwrap().values().iter().zip(clean.weights_blocking().unwrap().values()) {
                assert!((a - b).abs() <= 2e-6, "{optimizer:?}, {clip:?}: {a} and without bad steps {b}");
            }
        }
    }
}

/// The loss is finite, as it sees none of what overflows on the way back.
#[test]
fn an_infinite_norm_is_seen_in_the_log() {
    let ctx = common::context();
    let mut trainer = trainer(&ctx, &config(), Optimizer::sgd(0.0));
    let mut data = data(1);
    data.values.fill(1e19);
    step(&mut trainer, &data);
    let loss = trainer.losses_blocking().unwrap()[0];
    assert!(loss == f32::INFINITY, "{loss}");
    assert_eq!(trainer.skipped(), 1);
}

#[test]
fn an_error_names_the_first_bad_step() {
    let ctx = common::context();
    let mut trainer = trainer(&ctx, &config().with_non_finite(NonFinite::Error), Optimizer::adam());
    for at in 0..4 {
        let mut data = data(at);
        if at >= 2 {
            spoil(&mut data, 0);
        }
        step(&mut trainer, &data);
    }
    let error = trainer.losses_blocking().unwrap_err().to_string();
    assert!(error.contains("step 2") && error.contains("NaN"), "{error}");
    assert!(trainer.weights_blocking().unwrap().values().iter().all(|value| value.is_finite()));
    step(&mut trainer, &data(9));
    assert!(trainer.losses_blocking().unwrap()[0].is_finite());
}

/// Losses are read so seldom that the log has the bad step no more.
#[test]
fn a_bad_step_that_left_the_log_is_an_error() {
    let ctx = common::context();
    let config = config().with_non_finite(NonFinite::Error).with_log_len(2);
    let mut trainer = trainer(&ctx, &config, Optimizer::adam());
    for at in 0..4 {
        let mut data = data(at);
        if at == 1 {
            spoil(&mut data, 0);
        }
        step(&mut trainer, &data);
    }
    let error = trainer.losses_blocking().unwrap_err().to_string();
    assert!(error.contains("a step before 2, where the log of 2 begins"), "{error}");
    // It is told once.
    step(&mut trainer, &data(9));
    assert_eq!(trainer.losses_blocking().unwrap().len(), 1);
}

/// Adam divides a rate by what is far below 1 at first: infinite, it would make NaN of every weight.
#[test]
fn a_rate_that_overflows_is_refused() {
    let ctx = common::context();
    for optimizer in [Optimizer::adam(), Optimizer::adamw()] {
        let mut trainer = trainer(&ctx, &config(), optimizer);
        let before = trainer.weights_blocking().unwrap();
        let error = trainer.step(3e38).unwrap_err().to_string();
        assert!(error.contains("learning_rate") && error.contains("3") && error.contains("inf"), "{error}");
        assert!(trainer.weights_blocking().unwrap() == before && trainer.steps() == 0);
    }
}

#[test]
fn checkpoints_store_finite_numbers_and_the_count() {
    let ctx = common::context();
    let mut trainer = trainer(&ctx, &config(), Optimizer::adam());
    let mut bad = data(1);
    spoil(&mut bad, 0);
    step(&mut trainer, &bad);
    step(&mut trainer, &data(2));
    let checkpoint = trainer.checkpoint_blocking("").unwrap();
    let mut again = self::trainer(&ctx, &config(), Optimizer::adam());
    again.restore(&checkpoint).unwrap();
    assert_eq!((again.steps(), again.skipped()), (2, 1));
    for trainer in [&mut trainer, &mut again] {
        step(trainer, &data(3));
        trainer.losses_blocking().unwrap();
    }
    assert!(trainer.checkpoint_blocking("").unwrap() == again.checkpoint_blocking("").unwrap());
    assert_eq!(Checkpoint::open(&checkpoint).unwrap().step(), 2);

    let mut weights = trainer.weights_blocking().unwrap();
    let mut bias = weights.get("rnn.bias_ih_l0").unwrap().to_vec();
    bias[1] = f32::NEG_INFINITY;
    weights.set("rnn.bias_ih_l0", &bias).unwrap();
    trainer.set_weights(&weights).unwrap();
    match trainer.checkpoint_blocking("") {
        Err(Error::NonFinite { name, value, .. }) => assert_eq!((&*name, value), ("rnn.bias_ih_l0", f64::NEG_INFINITY)),
        other => panic!("{other:?}"),
    }
}
