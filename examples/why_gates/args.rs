//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, value_parser};

use crate::Result;
use crate::batch::{CELLS, Wanted, arms};
use crate::init::Init;
use crate::tasks::{ALL, Task};
use crate::train::{Arm, Size};

/// Are gates there to model, or to make gradients behave? Without a command: a small part of all, nothing written.
#[derive(Debug, Parser)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Norms of dh_T/dh_t over lags, at the start and while training: figures and their numbers
    Gradients {
        /// Folder of the figures
        #[arg(long, default_value = "docs/why-gates")]
        out: PathBuf,
        #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
        hidden: u32,
        /// Initial weights of which the mean is taken
        #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..))]
        seeds: u64,
    },
    /// Trains every cell with every remedy on every task; runs that the file has are not done again
    Tasks {
        /// The runs, a line each
        #[arg(long, default_value = "docs/why-gates/runs.tsv")]
        out: PathBuf,
        #[command(flatten)]
        tasks: TasksArgs,
    },
    /// The tables of the runs, as Markdown
    Report {
        #[arg(default_value = "docs/why-gates/runs.tsv")]
        runs: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub struct TasksArgs {
    /// Rising; one is tried where the one before it was solved
    #[arg(long, value_delimiter = ',', default_value = "10,30,100,300", value_parser = lag)]
    lags: Vec<usize>,
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Some of the tasks [default: all]
    #[arg(long, value_delimiter = ',')]
    tasks: Vec<Task>,
    /// Some of the cells [default: all]
    #[arg(long, value_delimiter = ',')]
    cells: Vec<String>,
    /// Some of the ways to start [default: all]
    #[arg(long, value_delimiter = ',')]
    starts: Vec<Init>,
    /// Learning rate of Adam, of cells without gates
    #[arg(long, default_value_t = 1e-3)]
    plain_rate: f64,
    /// And of those with gates
    #[arg(long, default_value_t = 3e-3)]
    gated_rate: f64,
    /// Units
    #[arg(long, default_value_t = 32, value_parser = value_parser!(u32).range(1..))]
    hidden: u32,
    /// Rows of an update
    #[arg(long, default_value_t = 16, value_parser = value_parser!(u32).range(1..))]
    batch: u32,
    /// Most updates of a run
    #[arg(long, default_value_t = 2000)]
    updates: u64,
}

impl TasksArgs {
    /// Refuses a choice that leaves nothing to run.
    pub fn wanted(self) -> Result<Wanted> {
        let is_wanted = |arm: &Arm| {
            (self.cells.is_empty() || self.cells.contains(&arm.cell))
                && (self.starts.is_empty() || self.starts.contains(&arm.init))
        };
        let arms: Vec<Arm> = arms().into_iter().filter(is_wanted).collect();
        if arms.is_empty() {
            return Err(
                format!("none of the cells ({}) starts as that; all are: {}", self.cells.join(", "), CELLS.join(", ")).into()
            );
        }
        Ok(Wanted {
            tasks: if self.tasks.is_empty() { ALL.to_vec() } else { self.tasks },
            lags: self.lags,
            seeds: self.seeds,
            arms,
            rates: [self.plain_rate, self.gated_rate],
            size: Size { hidden: self.hidden as usize, batch: self.batch as usize, updates: self.updates },
        })
    }
}

/// From four on, the half of a lag has two places for a second mark.
fn lag(text: &str) -> Result<usize, String> {
    let lag = text.parse().map_err(|e| format!("{e}"))?;
    if (4..=100_000).contains(&lag) { Ok(lag) } else { Err(format!("{lag} is not within 4..=100000")) }
}
