//! All runs of the tasks, in an order in which each lag is tried where the one before it was solved.

use tidegate::Context;

use crate::Result;
use crate::init::Init;
use crate::runs::{Key, Record, Runs};
use crate::tasks::{Problem, Task};
use crate::train::{Arm, Run, Size};

/// In the order of the tables.
pub const CELLS: [&str; 6] = ["rnn_linear", "rnn_tanh", "rnn_relu", "binary_gate", "gru", "lstm"];

/// Every cell with every remedy that it can have.
pub fn arms() -> Vec<Arm> {
    let mut arms = Vec::new();
    for cell in CELLS {
        let mut arm = |init, is_clipped| arms.push(Arm { cell: cell.into(), init, is_clipped });
        if cell == "rnn_relu" {
            arm(Init::Identity, true);
            continue;
        }
        arm(Init::Uniform, false);
        arm(Init::Uniform, true);
        arm(Init::Orthogonal, true);
        if has_gates(cell) {
            arm(Init::Keep, true);
        }
        // A shut gate of binary_gate copies all of it, whatever the bias.
        if matches!(cell, "gru" | "lstm") {
            arm(Init::Chrono, true);
        }
    }
    arms
}

/// Whether it copies by a gate.
pub fn has_gates(cell: &str) -> bool {
    matches!(cell, "binary_gate" | "gru" | "lstm")
}

/// Which runs there shall be.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub tasks: Vec<Task>,
    /// Rising.
    pub lags: Vec<usize>,
    pub seeds: u64,
    pub arms: Vec<Arm>,
    /// Learning rates of cells without gates, and with.
    pub rates: [f64; 2],
    pub size: Size,
}

/// Does what is not done yet. An arm goes on to the next lag if any seed solved the one before.
pub fn batch(ctx: &Context, runs: &mut Runs, wanted: &Wanted) -> Result<()> {
    let Wanted { tasks, lags, seeds, arms, rates, size } = wanted;
    if let Some(pair) = lags.windows(2).find(|pair| pair[0] >= pair[1]) {
        return Err(format!("lags must rise, {} stands before {}", pair[0], pair[1]).into());
    }
    for (k, &lag) in lags.iter().enumerate() {
        for (seed, &task) in (1..=*seeds).flat_map(|seed| tasks.iter().map(move |task| (seed, task))) {
            for arm in arms {
                let learning_rate = rates[usize::from(has_gates(&arm.cell))];
                let key = Key { problem: Problem { task, lag }, arm: arm.clone(), seed, learning_rate };
                let before = k.checked_sub(1).map(|k| Problem { task, lag: lags[k] });
                if runs.has(&key) || before.is_some_and(|before| !runs.solved(before, arm)) {
                    continue;
                }
                let outcome = Run::new(ctx, &key, *size)?.train()?;
                let record = Record::new(key, &outcome);
                println!("{}", record.line());
                runs.push(record)?;
            }
        }
    }
    Ok(())
}
