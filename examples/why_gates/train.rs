//! One training of one cell on one problem: fixed numbers of updates, an early end once it is solved.

use std::time::{Duration, Instant};

use tidegate::cell::by_name;
use tidegate::train::{Clip, Layout, Optimizer, TrainConfig, Trainer, Weights};
use tidegate::{Context, Rnn, RnnConfig, SeqShape, Sequence};

use crate::Result;
use crate::init::{Init, init};
use crate::norms::{Norm, directions, norms};
use crate::runs::Key;
use crate::tasks::{Answers, Generator, Part, Problem, Rows, Task};

/// The bound on the norm of gradients where they are clipped.
pub const CLIP: f32 = 1.0;
/// Held-out rows by which a run is judged.
const TEST_ROWS: usize = 256;
/// Updates between two looks at them.
const LOOK_EVERY: u64 = 100;
/// Rows, each with a vector, over which gradients are measured.
const NORM_ROWS: usize = 64;

/// A cell, where its weights start, and whether its gradients are clipped.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    pub cell: String,
    pub init: Init,
    pub is_clipped: bool,
}

/// How large and how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    pub hidden: usize,
    pub batch: usize,
    pub updates: u64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub updates: u64,
    /// On held-out rows: mean squared error of adding, part of right answers of the others.
    pub score: f64,
    /// Losses that are not numbers ended it.
    pub diverged: bool,
    /// From the end of the sequence to the end of its lead.
    pub norm_before: Norm,
    pub norm_after: Norm,
    pub time: Duration,
}

/// A network with its head, about to learn a problem.
pub struct Run {
    pub trainer: Trainer,
    problem: Problem,
    size: Size,
    learning_rate: f64,
    data: Generator,
    seed: u64,
}

impl Run {
    pub fn new(ctx: &Context, key: &Key, size: Size) -> Result<Self> {
        let Key { problem, ref arm, seed, learning_rate } = *key;
        let Problem { task, .. } = problem;
        let rnn = Rnn::new(ctx, by_name(&arm.cell)?, RnnConfig::new(task.input_size(), size.hidden))?;
        let shape = SeqShape { seq_len: problem.seq_len(), batch_size: size.batch };
        let mut config = TrainConfig::new(shape, task.objective(), task.outputs()).with_readout(task.readout());
        if arm.is_clipped {
            config = config.with_clip(Clip::Norm(CLIP));
        }
        let mut weights = Weights::init(&Layout::new(&rnn, &config)?, seed);
        let mut params = weights.rnn_params()?;
        init(&mut params, rnn.cell(), arm.init, problem.lag, seed)?;
        for spec in rnn.param_layout().iter() {
            weights.set(&format!("rnn.{}", spec.name), params.get(&spec.name)?)?;
        }
        let trainer = Trainer::new(&rnn, &config, Optimizer::adam(), &weights)?;
        Ok(Self { trainer, problem, size, learning_rate, data: Generator::new(problem, Part::Train, seed), seed })
    }

    /// Trains until it is solved, its losses are no numbers, or all updates are done.
    pub fn train(&mut self) -> Result<Outcome> {
        let start = Instant::now();
        let norm_before = self.norm()?;
        let test = self.problem.rows(Part::Test, self.seed, TEST_ROWS);
        let (mut score, mut diverged) = (self.score(&test)?, false);
        while self.trainer.steps() < self.size.updates && !diverged && !self.problem.task.is_solved(score) {
            diverged =
                self.update(LOOK_EVERY.min(self.size.updates - self.trainer.steps()))?.iter().any(|loss| !loss.is_finite());
            score = self.score(&test)?;
        }
        let norm_after = self.norm()?;
        Ok(Outcome { updates: self.trainer.steps(), score, diverged, norm_before, norm_after, time: start.elapsed() })
    }

    /// So many updates, each on rows that were not there before; gives their losses.
    pub fn update(&mut self, count: u64) -> Result<Vec<f32>> {
        for _ in 0..count {
            let rows = self.data.rows(self.size.batch);
            self.trainer.write_batch(&rows.batch())?;
            self.trainer.step(self.learning_rate)?;
        }
        Ok(self.trainer.losses_blocking()?)
    }

    /// What arrives of a gradient in the last h at the step by which the first thing to remember is in.
    fn norm(&self) -> Result<Norm> {
        let inputs = self.problem.rows(Part::Test, self.seed, NORM_ROWS).inputs;
        let (rnn, hidden) = (self.trainer.rnn(), self.size.hidden);
        let params = self.trainer.weights_blocking()?.rnn_params()?;
        let vectors = directions(NORM_ROWS, hidden, self.seed);
        let used = (self.problem.lead() + self.problem.lag) * NORM_ROWS * rnn.config().input_size;
        let norms = norms(rnn, &params, &inputs[..used], self.problem.lead(), &[self.problem.lag], &vectors)?;
        norms.into_iter().next().ok_or_else(|| "no lag was measured".into())
    }

    /// The score of the rows, by the weights as they are.
    pub fn score(&self, rows: &Rows) -> Result<f64> {
        let (rnn, weights) = (self.trainer.rnn(), self.trainer.weights_blocking()?);
        let Problem { task, .. } = self.problem;
        let hidden = self.size.hidden;
        let seq_len = self.problem.seq_len();
        let shape = SeqShape { seq_len, batch_size: rows.inputs.len() / (seq_len * task.input_size()) };
        let params = rnn.upload(&weights.rnn_params()?)?;
        let output = rnn.forward_blocking(&params, &Sequence::new(shape, &rows.inputs))?.output;
        let (weight, bias) = (weights.get("head.weight")?, weights.get("head.bias")?);
        let head = |row: &[f32]| -> Vec<f64> {
            let unit = |(weight, &bias): (&[f32], &f32)| {
                f64::from(bias) + weight.iter().zip(row).map(|(&w, &h)| f64::from(w) * f64::from(h)).sum::<f64>()
            };
            weight.chunks_exact(hidden).zip(bias).map(unit).collect()
        };
        // Over the last step, or over all.
        let predicted = if task == Task::Copy { &output[..] } else { &output[(seq_len - 1) * shape.batch_size * hidden..] };
        let predicted = predicted.chunks_exact(hidden);
        Ok(match &rows.targets {
            Answers::Values(values) => {
                let errors: Vec<f64> =
                    predicted.zip(values).map(|(h, &target)| (head(h)[0] - f64::from(target)).powi(2)).collect();
                errors.iter().sum::<f64>() / errors.len() as f64
            }
            Answers::Labels(labels) => {
                let asked = predicted.zip(labels).filter(|&(_, &label)| (label as usize) < task.outputs());
                let right: Vec<bool> = asked.map(|(h, &label)| likeliest(&head(h)) == Some(label as usize)).collect();
                right.iter().filter(|&&right| right).count() as f64 / right.len() as f64
            }
        })
    }
}

/// None where a logit is not a number.
fn likeliest(logits: &[f64]) -> Option<usize> {
    let best = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if logits.iter().any(|logit| logit.is_nan()) { None } else { logits.iter().position(|&logit| logit == best) }
}
