//! The loop: chunk after chunk, with a progress bar, and a report every so often.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tidegate::train::{Batch, Inputs, Targets, Trainer};

use crate::Result;
use crate::model::Model;
use crate::sample::{self, Draw};
use crate::text::Rows;

/// Losses are read back after this many steps; until then nothing waits for the GPU.
const READ_EVERY: u64 = 10;
/// A report on the way looks at no more of the held-out text than this.
const REPORT_CHUNKS: usize = 16;
const SAMPLE: usize = 200;

/// What reports need, and when to stop.
pub struct Options<'a> {
    pub report_every: u64,
    pub checkpoint: Option<&'a Path>,
    pub draw: Draw,
    pub stop: &'a AtomicBool,
}

/// What came out.
pub struct Outcome {
    /// Loss of each step that was done, in nats.
    pub losses: Vec<f32>,
    /// Without reports.
    pub time: Duration,
}

/// Trains up to the model's number of steps, from where the trainer stands.
pub fn train(
    trainer: &mut Trainer,
    model: &Model,
    rows: &Rows<'_>,
    held_out: &Rows<'_>,
    options: &Options<'_>,
) -> Result<Outcome> {
    let first = trainer.steps();
    let bar = ProgressBar::new(model.steps).with_position(first);
    bar.set_style(ProgressStyle::with_template("{bar:30} step {pos}/{len}, {msg}, {eta} left")?);
    bar.reset_eta();
    let mut outcome = Outcome { losses: Vec::new(), time: Duration::ZERO };
    let mut since = Instant::now();
    while trainer.steps() < model.steps && !options.stop.load(Ordering::Relaxed) {
        step(trainer, model, rows)?;
        let done = trainer.steps();
        let reports = done.is_multiple_of(options.report_every) && done < model.steps;
        if done.is_multiple_of(READ_EVERY) || reports {
            outcome.losses.extend(trainer.losses_blocking()?);
            let loss = outcome.losses.last().copied().unwrap_or_default();
            let speed = characters(model, done - first) / (outcome.time + since.elapsed()).as_secs_f64();
            bar.set_message(format!("loss {loss:.3}, {speed:.0} characters/s"));
            bar.set_position(done);
        }
        if reports {
            outcome.time += since.elapsed();
            bar.suspend(|| report(trainer, model, held_out, options, &outcome))?;
            since = Instant::now();
        }
    }
    outcome.losses.extend(trainer.losses_blocking()?);
    outcome.time += since.elapsed();
    bar.finish_and_clear();
    Ok(outcome)
}

/// Characters of a number of steps.
pub fn characters(model: &Model, steps: u64) -> f64 {
    steps as f64 * model.shape().rows() as f64
}

fn step(trainer: &mut Trainer, model: &Model, rows: &Rows<'_>) -> Result<()> {
    let step = trainer.steps();
    let k = step as usize % rows.chunks();
    if k == 0 {
        reset(trainer)?;
    }
    write(trainer, rows, k)?;
    Ok(trainer.step(model.learning_rate(step))?)
}

/// Every row starts from zeros: at the beginning of a text.
fn reset(trainer: &mut Trainer) -> Result<()> {
    let rows: Vec<usize> = (0..trainer.config().shape.batch_size).collect();
    Ok(trainer.reset_rows(&rows)?)
}

fn write(trainer: &mut Trainer, rows: &Rows<'_>, k: usize) -> Result<()> {
    let chunk = rows.chunk(k);
    let (inputs, targets) = rows.inputs_and_targets(&chunk);
    Ok(trainer.write_batch(&Batch::new(Inputs::Tokens(inputs), Targets::Labels(targets)))?)
}

fn report(trainer: &mut Trainer, model: &Model, held_out: &Rows<'_>, options: &Options<'_>, outcome: &Outcome) -> Result<()> {
    let bits = bits_per_character(trainer, held_out, REPORT_CHUNKS)?;
    let recent = &outcome.losses[outcome.losses.len().saturating_sub(options.report_every as usize)..];
    let loss = recent.iter().sum::<f32>() / recent.len() as f32;
    println!("step {}: loss {loss:.3}, held-out {bits:.3} bits a character", trainer.steps());
    let weights = trainer.weights_blocking()?;
    println!("{}\n", sample::generate(trainer.rnn(), &weights, &model.vocabulary(), None, SAMPLE, options.draw)?);
    options.checkpoint.map_or(Ok(()), |path| model.save(trainer, path))
}

/// Over the first `most` chunks of a text that the model has not seen, states carried from chunk to chunk. The state of the
/// training is afterwards what it was.
pub fn bits_per_character(trainer: &mut Trainer, held_out: &Rows<'_>, most: usize) -> Result<f64> {
    let state = pollster::block_on(trainer.state())?;
    let chunks = held_out.chunks().min(most);
    reset(trainer)?;
    let mut sum = 0.0;
    for k in 0..chunks {
        write(trainer, held_out, k)?;
        sum += f64::from(trainer.evaluate_blocking()?);
    }
    trainer.set_state(&state)?;
    Ok(sum / chunks as f64 / std::f64::consts::LN_2)
}
