//! A small part of everything, in seconds, on the terminal.

use tidegate::Context;

use crate::Result;
use crate::curves::{Start, before_training};
use crate::init::Init;
use crate::runs::{Key, Record};
use crate::tasks::{Problem, Task};
use crate::train::{Arm, Run, Size};

const LAGS: [usize; 4] = [1, 5, 20, 50];
const HIDDEN: usize = 32;

pub fn demo(ctx: &Context) -> Result<()> {
    println!("norm of dh_T/dh_t before training, {HIDDEN} units, at lags {LAGS:?}");
    for (cell, init) in [
        ("rnn_linear", Init::Uniform),
        ("rnn_linear", Init::Orthogonal),
        ("rnn_tanh", Init::Orthogonal),
        ("binary_gate", Init::Uniform),
        ("lstm", Init::Uniform),
        ("lstm", Init::Chrono),
    ] {
        let norms = before_training(ctx, Start { cell, init, gain: 1.0 }, HIDDEN, &LAGS, 1)?;
        let numbers: Vec<String> = norms.iter().map(|norm| format!("{:8.1e}", norm.of_state[0])).collect();
        println!("{:24}{}", format!("{cell}, {}", init.name()), numbers.join(" "));
    }
    println!("\nsome tasks at a lag of 10, at most 300 updates");
    for (task, cell, init) in [
        (Task::Copy, "rnn_linear", Init::Uniform),
        (Task::Copy, "rnn_linear", Init::Orthogonal),
        (Task::Adding, "rnn_linear", Init::Orthogonal),
        (Task::Adding, "gru", Init::Chrono),
    ] {
        let arm = Arm { cell: cell.into(), init, is_clipped: true };
        let key = Key { problem: Problem { task, lag: 10 }, arm, seed: 1, learning_rate: 3e-3 };
        let outcome = Run::new(ctx, &key, Size { hidden: HIDDEN, batch: 16, updates: 300 })?.train()?;
        let record = Record::new(key, &outcome);
        let (measure, solved) = (task.measure(), if record.is_solved() { "solved" } else { "not solved" });
        let (score, updates) = (record.score, record.updates);
        println!(
            "{:34} {measure} {score:.3} after {updates} updates: {solved}",
            format!("{}, {cell}, {}", task.name(), init.name())
        );
    }
    let linear = Problem { task: Task::Adding, lag: 10 }.linear_bound();
    println!("no answer that is linear in its inputs can have a squared error below {linear:.3} on adding");
    Ok(())
}
