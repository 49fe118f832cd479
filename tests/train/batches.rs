//! No step without a chunk: zeros that nobody gave are not trained on.

use tidegate::train::{Batch, Inputs, Layout, Objective, Optimizer, Targets, TrainConfig, Trainer, Weights};
use tidegate::{Context, Gru, Rnn, RnnConfig, SeqShape};

use crate::common;

const TOKENS: [u32; 8] = [0, 1, 2, 3, 4, 3, 2, 1];

fn trainer(ctx: &Context, vocabulary: Option<usize>) -> Trainer {
    let rnn = Rnn::new(ctx, Gru::default(), RnnConfig::new(3, 4)).unwrap();
    let mut config = TrainConfig::new(SeqShape::new(4, 2), Objective::CrossEntropy, 5);
    config.vocabulary = vocabulary;
    let weights = Weights::init(&Layout::new(&rnn, &config).unwrap(), 1);
    Trainer::new(&rnn, &config, Optimizer::adam(), &weights).unwrap()
}

fn refuses(ctx: &Context, trainer: &mut Trainer) {
    let mut encoder = ctx.device().create_command_encoder(&Default::default());
    let before = (trainer.steps(), trainer.weights_blocking().unwrap());
    let errors = [trainer.step(0.1), trainer.encode(0.1, &mut encoder), trainer.evaluate_blocking().map(drop)];
    for error in errors {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("there is no batch: call `write_batch` first"), "{error}");
    }
    // What is wrong in the call itself is told first.
    let error = trainer.step(f64::NAN).unwrap_err().to_string();
    assert!(error.contains("`learning_rate` is NaN"), "{error}");
    assert!(before == (trainer.steps(), trainer.weights_blocking().unwrap()));
}

#[test]
fn without_a_batch_nothing_is_computed() {
    let ctx = common::context();
    let mut fresh = trainer(&ctx, Some(5));
    refuses(&ctx, &mut fresh);
    let checkpoint = fresh.checkpoint_blocking("").unwrap();
    fresh.restore(&checkpoint).unwrap();
    refuses(&ctx, &mut fresh);
    fresh.write_batch(&Batch::new(Inputs::Tokens(&TOKENS), Targets::Labels(&TOKENS))).unwrap();
    fresh.evaluate_blocking().unwrap();
    fresh.step(0.1).unwrap();
    fresh.step(0.1).unwrap();
    // What predictions leave has no targets.
    fresh.predict_blocking(Inputs::Tokens(&TOKENS), None).unwrap();
    refuses(&ctx, &mut fresh);
}

#[test]
fn an_app_that_asks_for_the_buffers_fills_them() {
    let ctx = common::context();
    let asks: [fn(&Trainer) -> bool; 3] =
        [|trainer| trainer.tokens().is_some(), |trainer| trainer.input().size() > 0, |trainer| trainer.targets().size() > 0];
    for ask in asks {
        let mut trainer = trainer(&ctx, Some(5));
        assert!(ask(&trainer));
        trainer.evaluate_blocking().unwrap();
        trainer.predict_blocking(Inputs::Tokens(&TOKENS), None).unwrap();
        trainer.step(0.1).unwrap();
    }
    // There is none to fill.
    let mut features = trainer(&ctx, None);
    assert!(features.tokens().is_none());
    refuses(&ctx, &mut features);
}
