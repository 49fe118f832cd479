//! A model of a text's characters: trained on the GPU, with a progress bar, held-out loss and samples as it goes; then it writes
//! text of its own. Any cell of the library, any number of layers. See the README beside it.
//!
//! ```sh
//! cargo run --release --features cli --example char_lm                   # a short training on The Tempest
//! cargo run --release --features cli --example char_lm -- plays.txt      # Ctrl-C saves; --resume goes on
//! cargo run --release --features cli --example char_lm -- --generate 500 --checkpoint char_lm.safetensors
//! ```

mod args;
mod model;
mod record;
mod sample;
mod text;
mod train;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use args::Args;
use clap::Parser;
use model::Model;
use sample::Draw;
use text::{Rows, Vocabulary, split};
use tidegate::train::{Checkpoint, Layout};
use tidegate::{Context, Mode, Tuning};
use train::{Options, bits_per_character, characters, train};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const TEMPEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/shakespeare/tempest.txt");
const CHECKPOINT: &str = "char_lm.safetensors";

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("char_lm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let draw = Draw::new(args.temperature, args.sample_seed)?;
    match (args.generate, &args.checkpoint) {
        (Some(length), Some(checkpoint)) => write_text(checkpoint, args.prompt.as_deref(), length, draw),
        _ => train_model(args, draw),
    }
}

fn write_text(checkpoint: &Path, prompt: Option<&str>, length: usize, draw: Draw) -> Result<()> {
    let (model, bytes) = Model::load(checkpoint)?;
    let (rnn, config) = model.network(&pollster::block_on(Context::request())?)?;
    let weights = Checkpoint::open(&bytes)?.weights(&Layout::new(&rnn, &config)?);
    let weights = weights.map_err(|e| format!("{}: {e}", checkpoint.display()))?;
    let text = sample::generate(&rnn, &weights, &model.vocabulary(), prompt, length, draw)?;
    println!("{}{text}", prompt.unwrap_or_default());
    Ok(())
}

fn train_model(args: Args, draw: Draw) -> Result<()> {
    let is_demo = args.text.is_none();
    let path = args.text.unwrap_or_else(|| TEMPEST.into());
    let checkpoint = args.checkpoint.or_else(|| (!is_demo).then(|| PathBuf::from(CHECKPOINT)));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;

    let mut before = None;
    let mut model = Model::new(args.settings, if is_demo { 40 } else { 2000 }, &Vocabulary::of(&text));
    if let Some(checkpoint) = &checkpoint {
        if args.resume {
            let (saved, bytes) = Model::load(checkpoint)?;
            model = saved;
            before = Some(bytes);
        } else if checkpoint.exists() {
            return Err(format!("{}: is there already; --resume goes on from it", checkpoint.display()).into());
        }
        Model::check_writable(checkpoint)?;
    }
    model.steps = args.steps.unwrap_or(model.steps);
    let vocabulary = model.vocabulary();
    let tokens = vocabulary.encode(&text)?;
    let (seen, unseen) = split(&tokens);
    let rows = Rows::new("the text without its last 5 %", seen, model.shape())?;
    let held_out = Rows::new("the last 5 % of the text", unseen, model.shape())?;

    let ctx = pollster::block_on(Context::request())?;
    let tuning = match &before {
        Some(bytes) => Checkpoint::open(bytes)?.tuning().clone(),
        None if args.tune => pollster::block_on(model.network(&ctx)?.0.tune(model.shape(), Mode::Training))?,
        None => Tuning::default(),
    };
    let mut trainer = model.trainer(&ctx, &tuning)?;
    if let (Some(bytes), Some(checkpoint)) = (&before, &checkpoint) {
        trainer.restore(bytes).map_err(|e| format!("{}: {e}", checkpoint.display()))?;
    }
    let (first, initial) = (trainer.steps(), trainer.weights_blocking()?);
    println!(
        "{}: {} layers of {} units, {}, {}; {} characters, {} distinct; {} steps of {} rows of {}, {} dispatches each",
        ctx.adapter_info().name,
        model.settings.layers,
        model.settings.hidden,
        model.settings.cell,
        model.settings.dtype.name(),
        tokens.len(),
        vocabulary.len(),
        model.steps,
        model.settings.batch,
        model.settings.seq,
        trainer.dispatches(),
    );

    let stop = stop_on_ctrl_c()?;
    let report_every = args.report.unwrap_or((model.steps / 10).max(20));
    let options = Options { report_every, checkpoint: checkpoint.as_deref(), draw, stop: &stop };
    let outcome = train(&mut trainer, &model, &rows, &held_out, &options)?;
    let steps = trainer.steps();
    if let Some(path) = &checkpoint {
        model.save(&trainer, path)?;
        println!("step {steps} of {}: saved in {}", model.steps, path.display());
    }
    if let Some(path) = &args.record {
        record::write(path, &model, &initial, &rows, &outcome.losses)?;
    }
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    let bits = bits_per_character(&mut trainer, &held_out, usize::MAX)?;
    let seconds = outcome.time.as_secs_f64();
    let speed = characters(&model, steps - first) / seconds;
    println!("trained for {seconds:.1} s, {speed:.0} characters/s; held-out text: {bits:.3} bits a character");
    if let Some(scale) = trainer.loss_scale() {
        println!("loss scale {scale}, {} steps skipped as gradients overflowed f16", trainer.skipped());
    }
    Ok(())
}

/// Set by the first Ctrl-C, after which the loop ends and saves; a second one ends the process as usual.
fn stop_on_ctrl_c() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            process::exit(130);
        }
    })?;
    Ok(stop)
}
