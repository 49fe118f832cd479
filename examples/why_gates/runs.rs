//! The runs of the tasks, one line of a TSV file each: what is done stays done, and the next start goes on behind it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use clap::ValueEnum;

use crate::Result;
use crate::init::Init;
use crate::tasks::{Problem, Task};
use crate::train::{Arm, Outcome, Size};

/// What is run, and with which weights and data.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub problem: Problem,
    pub arm: Arm,
    pub seed: u64,
    pub learning_rate: f64,
}

/// A run that was done. Norms are those of [`Norm::whole`](crate::norms::Norm::whole).
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub key: Key,
    pub updates: u64,
    pub score: f64,
    pub diverged: bool,
    pub norm_before: f64,
    pub norm_after: f64,
    pub seconds: f64,
}

const COLUMNS: &str =
    "task\tlag\tcell\tinit\tclip\tseed\tlearning_rate\tupdates\tscore\tdiverged\tnorm_before\tnorm_after\tseconds";

impl Record {
    pub fn new(key: Key, outcome: &Outcome) -> Self {
        Self {
            key,
            updates: outcome.updates,
            score: outcome.score,
            diverged: outcome.diverged,
            norm_before: outcome.norm_before.whole(),
            norm_after: outcome.norm_after.whole(),
            seconds: outcome.time.as_secs_f64(),
        }
    }

    pub fn is_solved(&self) -> bool {
        self.key.problem.task.is_solved(self.score)
    }

    pub fn line(&self) -> String {
        let Self { key: Key { problem, arm, seed, learning_rate }, updates, score, diverged, norm_before, norm_after, seconds } =
            self;
        let (task, lag, init) = (problem.task.name(), problem.lag, arm.init.name());
        let (cell, clip) = (&arm.cell, arm.is_clipped);
        format!(
            "{task}\t{lag}\t{cell}\t{init}\t{clip}\t{seed}\t{learning_rate}\t{updates}\t{score:.5}\t{diverged}\t{norm_before:.3e}\t{norm_after:.3e}\t{seconds:.1}"
        )
    }

    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[task, lag, cell, init, clip, seed, learning_rate, updates, score, diverged, norm_before, norm_after, seconds] =
            &fields[..]
        else {
            return Err(format!("has {} columns, not {}", fields.len(), COLUMNS.split('\t').count()).into());
        };
        let problem = Problem { task: Task::from_str(task, false)?, lag: lag.parse()? };
        let arm = Arm { cell: cell.into(), init: Init::from_str(init, false)?, is_clipped: clip.parse()? };
        Ok(Self {
            key: Key { problem, arm, seed: seed.parse()?, learning_rate: learning_rate.parse()? },
            updates: updates.parse()?,
            score: score.parse()?,
            diverged: diverged.parse()?,
            norm_before: norm_before.parse()?,
            norm_after: norm_after.parse()?,
            seconds: seconds.parse()?,
        })
    }
}

/// The file, and what is in it.
#[derive(Debug)]
pub struct Runs {
    pub records: Vec<Record>,
    file: File,
}

fn header(size: &Size) -> String {
    let Size { hidden, batch, updates } = size;
    format!("# hidden {hidden}, batch {batch}, at most {updates} updates")
}

/// The first line of a file, and its records.
pub fn read(path: &Path) -> Result<(String, Vec<Record>)> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut lines = text.lines().enumerate();
    let size = lines.next().map_or("", |(_, line)| line).to_string();
    let mut records = Vec::new();
    for (number, line) in lines.filter(|&(_, line)| line != COLUMNS) {
        records.push(Record::parse(line).map_err(|e| format!("{}:{}: {e}", path.display(), number + 1))?);
    }
    Ok((size, records))
}

impl Runs {
    /// Goes on with a file of runs of the same size, or begins one.
    pub fn open(path: &Path, size: &Size) -> Result<Self> {
        let named = |e: std::io::Error| format!("{}: {e}", path.display());
        let header = header(size);
        if !path.exists() {
            fs::write(path, format!("{header}\n{COLUMNS}\n")).map_err(named)?;
        }
        let (found, records) = read(path)?;
        if found != header {
            return Err(format!("{}: its runs are `{found}`, these would be `{header}`", path.display()).into());
        }
        Ok(Self { records, file: OpenOptions::new().append(true).open(path).map_err(named)? })
    }

    pub fn has(&self, key: &Key) -> bool {
        self.records.iter().any(|record| record.key == *key)
    }

    /// Whether any seed of an arm solved a problem.
    pub fn solved(&self, problem: Problem, arm: &Arm) -> bool {
        self.records.iter().any(|record| record.key.problem == problem && record.key.arm == *arm && record.is_solved())
    }

    pub fn push(&mut self, record: Record) -> Result<()> {
        // One write: whatever ends the process, the file holds whole lines.
        self.file.write_all(format!("{}\n", record.line()).as_bytes())?;
        self.records.push(record);
        Ok(())
    }
}
