//! Which of nine speakers says a vowel? A network that runs over each utterance from both ends is trained on the GPU, on sequences of
//! different lengths. Any cell of the library, any number of layers, any sequences of one's own. See the README beside it.
//!
//! ```sh
//! cargo run --release --features cli --example classify
//! cargo run --release --features cli --example classify -- --cell gru --seed 2 --epochs 40
//! ```

mod args;
mod batch;
mod data;
mod errors;
mod model;
mod record;
mod train;

use std::process::ExitCode;

use args::Args;
use clap::Parser;
use data::Data;
use tidegate::Context;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const VOWELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/japanese_vowels");

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("classify: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let (settings, folder) = (args.settings, args.data.unwrap_or_else(|| VOWELS.into()));
    let data = Data::read(&folder)?;
    let ctx = pollster::block_on(Context::request())?;
    let mut trainer = settings.trainer(&ctx, &data)?;
    let initial = trainer.weights_blocking()?;
    let tests = data.test.len();
    println!(
        "{}: {} layers of 2 x {} units, {}; {} sequences of at most {} frames of {} channels, {tests} held out, {} classes; {} \
         dispatches a step",
        ctx.adapter_info().name,
        settings.layers,
        settings.hidden,
        settings.cell,
        data.train.len(),
        data.longest(),
        data.train.channels,
        data.train.classes.len(),
        trainer.dispatches(),
    );

    let outcome = train::train(&mut trainer, &settings, &data, |epoch, loss, verdict| {
        let accuracy = 100.0 * verdict.right(&data.test) as f64 / tests as f64;
        println!("epoch {epoch}: loss {loss:.4}; held-out: loss {:.4}, {accuracy:.1} % right", verdict.loss);
    })?;
    if let Some(path) = &args.record {
        record::write(path, &settings, &data, &initial, &outcome)?;
    }
    let (seconds, seen) = (outcome.time.as_secs_f64(), data.train.len() * settings.epochs);
    println!("trained for {seconds:.1} s, {:.0} sequences/s", seen as f64 / seconds);
    if let Some(last) = outcome.epochs.last() {
        println!("held-out: {} of {tests} right; most of the others:", last.right(&data.test));
        errors::confusions(&data.test, last).iter().take(10).for_each(|line| println!("  {line}"));
    }
    Ok(())
}
