//! Why gates: are they there to model, or to make gradients behave? Norms of gradients over lags, and three tasks that need a memory,
//! for cells without and with gates, without and with remedies for gradients. What came out is in `docs/why-gates.md`.
//!
//! ```sh
//! cargo run --release --features cli --example why_gates                # a small part of everything, in seconds
//! cargo run --release --features cli --example why_gates -- gradients   # figures, into docs/why-gates
//! cargo run --release --features cli --example why_gates -- tasks       # all runs; goes on where it was stopped
//! cargo run --release --features cli --example why_gates -- report      # their tables, as Markdown
//! ```

mod args;
mod batch;
mod curves;
mod demo;
mod init;
mod norms;
mod plot;
mod report;
mod runs;
mod tasks;
mod train;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use runs::Runs;
use tidegate::Context;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("why_gates: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let ctx = || pollster::block_on(Context::request());
    match args.command {
        None => demo::demo(&ctx()?),
        Some(Command::Gradients { out, hidden, seeds }) => curves::draw(&ctx()?, &out, hidden as usize, seeds),
        Some(Command::Tasks { out, tasks }) => {
            let wanted = tasks.wanted()?;
            batch::batch(&ctx()?, &mut Runs::open(&out, &wanted.size)?, &wanted)
        }
        Some(Command::Report { runs }) => {
            let (size, records) = runs::read(&runs)?;
            print!("{}", report::report(&size, &records));
            Ok(())
        }
    }
}
