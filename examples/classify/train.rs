//! The loop: epoch after epoch, and what the held-out sequences are taken for.

use std::time::{Duration, Instant};

use tidegate::train::{IGNORE, Trainer};

use crate::Result;
use crate::args::Settings;
use crate::batch::{Padded, order};
use crate::data::{Data, Sequences};

/// What came out of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Loss of each step.
    pub losses: Vec<f32>,
    /// After each epoch.
    pub epochs: Vec<Verdict>,
    /// Time of the steps alone.
    pub time: Duration,
}

/// What a model makes of sequences.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The mean over all sequences.
    pub loss: f64,
    /// The likeliest class of each.
    pub predicted: Vec<u32>,
}

impl Verdict {
    /// How many it has right.
    pub fn right(&self, sequences: &Sequences) -> usize {
        self.predicted.iter().zip(&sequences.labels).filter(|(predicted, label)| predicted == label).count()
    }
}

/// Trains all epochs and calls `report` after each with its number, mean loss and what it makes of the test.
pub fn train(
    trainer: &mut Trainer,
    settings: &Settings,
    data: &Data,
    mut report: impl FnMut(usize, f64, &Verdict),
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for epoch in 1..=settings.epochs {
        let since = Instant::now();
        let loss = train_epoch(trainer, settings, data, epoch, &mut outcome.losses)?;
        outcome.time += since.elapsed();
        let verdict = judge(trainer, &data.test)?;
        report(epoch, loss, &verdict);
        outcome.epochs.push(verdict);
    }
    Ok(outcome)
}

/// Gives the mean loss over all sequences, each as it was seen.
fn train_epoch(trainer: &mut Trainer, settings: &Settings, data: &Data, epoch: usize, losses: &mut Vec<f32>) -> Result<f64> {
    let shape = trainer.config().shape;
    let (first, mut sum) = (losses.len(), 0.0);
    let order = order(data.train.len(), settings.seed, epoch);
    for chosen in order.chunks(shape.batch_size) {
        trainer.write_batch(&Padded::new(&data.train, chosen, shape).batch())?;
        trainer.step(settings.learning_rate(data, trainer.steps()))?;
    }
    losses.extend(trainer.losses_blocking()?);
    for (loss, chosen) in losses[first..].iter().zip(order.chunks(shape.batch_size)) {
        sum += f64::from(*loss) * chosen.len() as f64;
    }
    Ok(sum / data.train.len() as f64)
}

/// Loss and classes of sequences, without training.
pub fn judge(trainer: &mut Trainer, sequences: &Sequences) -> Result<Verdict> {
    let (shape, classes) = (trainer.config().shape, trainer.config().out_features);
    let all: Vec<usize> = (0..sequences.len()).collect();
    let mut verdict = Verdict { loss: 0.0, predicted: Vec::new() };
    for chosen in all.chunks(shape.batch_size) {
        trainer.write_batch(&Padded::new(sequences, chosen, shape).batch())?;
        verdict.loss += f64::from(trainer.evaluate_blocking()?) * chosen.len() as f64;
        let [logits] = pollster::block_on(trainer.rnn().context().download([trainer.predictions()]))?;
        verdict.predicted.extend(logits.chunks(classes).take(chosen.len()).map(likeliest));
    }
    verdict.loss /= sequences.len() as f64;
    Ok(verdict)
}

/// The first of equal logits; [`IGNORE`], which is no class, if one is not a number.
fn likeliest(logits: &[f32]) -> u32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let is_number = logits.iter().all(|logit| !logit.is_nan());
    logits.iter().position(|&logit| is_number && logit == largest).map_or(IGNORE, |at| at as u32)
}
