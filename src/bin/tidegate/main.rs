//! The command `tidegate`: lists devices, runs networks from files, measures devices against each other.
#![deny(unsafe_code)]

mod args;
mod bench;
mod compare;
mod devices;
mod gates;
mod html;
mod inspect;
mod run;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};

use args::exit;
pub(crate) use args::{Failure, Result, complain, print};

/// Recurrent networks on any GPU.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the devices that `--device` takes
    Devices(devices::Args),
    /// List what is in a model file: networks, sizes, what would be refused and why
    Inspect(inspect::Args),
    /// Run a network from a file on tensors from a file
    Run(run::Args),
    /// Draw what the gates and states of a network do, as a page of heat maps
    Gates(gates::Args),
    /// Verify and time networks on devices
    #[command(after_help = exit::STATUSES)]
    Bench(bench::Args),
    /// Put the JSON files of several machines, devices and programs side by side
    Compare(compare::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Nothing was asked, so nothing is wrong.
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return finish(print(&help.to_string()));
        }
        Err(error) if error.use_stderr() => {
            complain(&usage_error(&error));
            return ExitCode::from(2);
        }
        Err(help) => return finish(print(&help.to_string())),
    };
    // Some failures of drivers reach an app as a panic of wgpu's. They too shall be one line.
    panic::set_hook(Box::new(|_| ()));
    let command = || match &cli.command {
        Command::Devices(args) => devices::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Run(args) => run::run(args),
        Command::Gates(args) => gates::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Compare(args) => compare::run(args),
    };
    let result = panic::catch_unwind(AssertUnwindSafe(command));
    finish(result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        Err(format!("internal error: {}", text.unwrap_or("a panic without a message")).into())
    }))
}

/// What is wrong with a command line, and what was probably meant.
fn usage_error(error: &clap::Error) -> String {
    // clap's message ends at the first blank line; usage and hints follow.
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let meant = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(one) => Some(one.as_str()),
        ContextValue::Strings(some) => some.first().map(String::as_str),
        _ => None,
    });
    match meant {
        Some(meant) => format!("{text}; did you mean {}?", meant.trim()),
        None => text.into(),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            exit::code(&failure)
        }
    }
}
