//! The tables of the runs, as Markdown.

use std::collections::BTreeSet;

use crate::batch::{CELLS, arms};
use crate::plot::HEALTHY;
use crate::runs::Record;
use crate::tasks::{ALL, Task};

/// For each task a table of arms against lags; then one of all runs by what their gradients were at the start.
pub fn report(size: &str, records: &[Record]) -> String {
    let mut text = format!("{}; {} runs\n", size.trim_start_matches("# "), records.len());
    for task in ALL {
        let records: Vec<&Record> = records.iter().filter(|record| record.key.problem.task == task).collect();
        text += &format!(
            "\n### {}: solved (best {}; norm at start → end)\n\n{}",
            task.name(),
            task.measure(),
            arms_by_lag(task, &records)
        );
    }
    text + "\n### by gradients at the start\n\n" + &by_gradients(records)
}

fn arms_by_lag(task: Task, records: &[&Record]) -> String {
    let lags: BTreeSet<usize> = records.iter().map(|record| record.key.problem.lag).collect();
    let mut text = String::from("| cell | start | clipped | rate |");
    lags.iter().for_each(|lag| text += &format!(" lag {lag} |"));
    text += &format!("\n|---|---|---|---|{}\n", "---|".repeat(lags.len()));
    for arm in arms() {
        let mut runs: Vec<&Record> = records.iter().copied().filter(|record| record.key.arm == arm).collect();
        runs.sort_by(|a, b| a.key.learning_rate.total_cmp(&b.key.learning_rate));
        for runs in runs.chunk_by(|a, b| a.key.learning_rate == b.key.learning_rate) {
            let (clipped, rate) = (if arm.is_clipped { "yes" } else { "no" }, runs[0].key.learning_rate);
            text += &format!("| `{}` | {} | {clipped} | {rate} |", arm.cell, arm.init.name());
            for &lag in &lags {
                let runs: Vec<&Record> = runs.iter().copied().filter(|record| record.key.problem.lag == lag).collect();
                text += &format!(" {} |", if runs.is_empty() { "–".into() } else { entry(task, &runs) });
            }
            text.push('\n');
        }
    }
    text
}

/// Seeds solved, the best score, and norms at the start and at the end by geometric mean.
fn entry(task: Task, runs: &[&Record]) -> String {
    let mean = |norm: fn(&Record) -> f64| (runs.iter().map(|run| norm(run).ln()).sum::<f64>() / runs.len() as f64).exp();
    let [before, after] = [mean(|run| run.norm_before), mean(|run| run.norm_after)];
    let better = if task == Task::Adding { f64::min } else { f64::max };
    let best = runs.iter().map(|run| run.score).reduce(better).unwrap_or(f64::NAN);
    let solved = count(runs.iter().map(|run| run.is_solved()));
    format!("{solved}/{} ({best:.3}; {before:.0e} → {after:.0e})", runs.len())
}

fn count(which: impl Iterator<Item = bool>) -> usize {
    which.filter(|&is| is).count()
}

/// Solved of all, where the gradient over the lag was below the healthy range at the start, within it, above it; and what the gradients
/// of those that began healthy and failed were at the end.
fn by_gradients(records: &[Record]) -> String {
    let vanished = |norm: f64| norm < HEALTHY[0];
    let is_healthy = |norm: f64| (HEALTHY[0]..=HEALTHY[1]).contains(&norm);
    let mut text = String::from(
        "| task | cell | vanished: solved | healthy: solved | healthy and failed | of them healthy at the end | vanished at the end | exploded or no number |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (task, cell) in ALL.iter().flat_map(|&task| CELLS.iter().map(move |&cell| (task, cell))) {
        let of_cell = |record: &&Record| record.key.problem.task == task && record.key.arm.cell == cell;
        let runs: Vec<&Record> = records.iter().filter(of_cell).collect();
        let solved_of = |runs: &[&Record]| format!("{}/{}", count(runs.iter().map(|run| run.is_solved())), runs.len());
        let began = |is: &dyn Fn(f64) -> bool| runs.iter().copied().filter(|run| is(run.norm_before)).collect::<Vec<_>>();
        let (lost, healthy) = (began(&vanished), began(&is_healthy));
        let failed: Vec<&Record> = healthy.iter().copied().filter(|run| !run.is_solved()).collect();
        let ended = |is: &dyn Fn(f64) -> bool| count(failed.iter().map(|run| !run.diverged && is(run.norm_after)));
        let (still, gone) = (ended(&is_healthy), ended(&vanished));
        let rest = failed.len() - still - gone;
        let (a, b) = (solved_of(&lost), solved_of(&healthy));
        text += &format!("| {} | `{cell}` | {a} | {b} | {} | {still} | {gone} | {rest} |\n", task.name(), failed.len());
    }
    text
}
