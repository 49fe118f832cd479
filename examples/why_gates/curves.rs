//! What the figures show: norms of dh_T/dh_t over lags, before training and in its course.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tidegate::cell::by_name;
use tidegate::{Context, Params, Rnn, RnnConfig};

use crate::Result;
use crate::init::{Init, init};
use crate::norms::{Norm, directions, norms};
use crate::plot::{self, Line, Panel};
use crate::runs::Key;
use crate::tasks::{Part, Problem, Task};
use crate::train::{Arm, Run, Size};

const LAGS: [usize; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];
/// Rows of data, each with a vector of its own.
const ROWS: usize = 16;

/// A network that was not trained.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub cell: &'static str,
    pub init: Init,
    /// What `weight_hh` is multiplied by.
    pub gain: f32,
}

/// Its gradients, on the numbers and marks of the adding task.
pub fn before_training(ctx: &Context, start: Start, hidden: usize, lags: &[usize], seed: u64) -> Result<Vec<Norm>> {
    let problem = Problem { task: Task::Adding, lag: lags.iter().copied().max().ok_or("no lags to measure gradients over")? };
    let rnn = Rnn::new(ctx, by_name(start.cell)?, RnnConfig::new(problem.task.input_size(), hidden))?;
    let mut params = Params::uniform(rnn.param_layout(), seed);
    init(&mut params, rnn.cell(), start.init, problem.lag, seed)?;
    let weight_hh = params.layout().find("weight_hh_l0")?.range.clone();
    params.values_mut()[weight_hh].iter_mut().for_each(|w| *w *= start.gain);
    let inputs = problem.rows(Part::Test, seed, ROWS).inputs;
    norms(&rnn, &params, &inputs, problem.lead(), lags, &directions(ROWS, hidden, seed))
}

/// The geometric mean over seeds; 0 where f32 had no smaller number.
fn mean(runs: &[Vec<Norm>], lag: usize, state: usize) -> f64 {
    let logs: f64 = runs.iter().map(|norms| norms[lag].of_state[state].ln()).sum();
    (logs / runs.len() as f64).exp()
}

fn line(name: &str, style: usize, runs: &[Vec<Norm>], state: usize) -> Line {
    let points = runs[0].iter().enumerate().map(|(k, norm)| (norm.lag as f64, mean(runs, k, state)));
    Line { name: name.into(), style, points: points.collect() }
}

/// What is measured, and how often.
struct Curves<'a> {
    ctx: &'a Context,
    hidden: usize,
    seeds: u64,
}

/// Draws all figures into a folder, and writes their numbers beside them.
pub fn draw(ctx: &Context, out: &Path, hidden: usize, seeds: u64) -> Result<()> {
    fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let curves = Curves { ctx, hidden, seeds };
    let mut numbers = String::from("figure\tpanel\tline\tlag\tnorm\n");
    for (name, columns, panels) in
        [("initial", 2, curves.initial()?), ("gain", 2, curves.gain()?), ("training", 3, curves.training()?)]
    {
        plot::draw(&out.join(format!("{name}.svg")), columns, &panels)?;
        for (panel, line) in panels.iter().flat_map(|panel| panel.lines.iter().map(move |line| (panel, line))) {
            for (lag, norm) in &line.points {
                writeln!(numbers, "{name}\t{}\t{}\t{lag}\t{norm:.3e}", panel.title, line.name)?;
            }
        }
    }
    let path = out.join("gradients.tsv");
    fs::write(&path, numbers).map_err(|e| format!("{}: {e}", path.display()).into())
}

impl Curves<'_> {
    fn measure(&self, start: Start) -> Result<Vec<Vec<Norm>>> {
        (1..=self.seeds).map(|seed| before_training(self.ctx, start, self.hidden, &LAGS, seed)).collect()
    }

    /// All cells by how they start. What has no gate to copy with is not in the last two.
    fn initial(&self) -> Result<Vec<Panel>> {
        let cells = ["rnn_linear", "rnn_tanh", "binary_gate", "gru", "lstm"];
        let mut panels = Vec::new();
        for (title, init, first) in [
            ("uniform, PyTorch's default", Init::Uniform, 0),
            ("orthogonal", Init::Orthogonal, 0),
            ("keep: bias 1 towards copying", Init::Keep, 2),
            ("chrono: bias ln 500 towards copying", Init::Chrono, 2),
        ] {
            let mut lines = Vec::new();
            for (style, &cell) in cells.iter().enumerate().skip(first) {
                let runs = self.measure(Start { cell, init, gain: 1.0 })?;
                lines.push(line(cell, style, &runs, 0));
                if cell == "lstm" {
                    lines.push(line("lstm, from c", style + 1, &runs, 1));
                }
            }
            panels.push(Panel { title: title.into(), lines });
        }
        Ok(panels)
    }

    fn gain(&self) -> Result<Vec<Panel>> {
        let mut panels = Vec::new();
        for cell in ["rnn_linear", "rnn_tanh"] {
            let mut lines = Vec::new();
            for (style, gain) in [0.9, 1.0, 1.1, 1.5].into_iter().enumerate() {
                let runs = self.measure(Start { cell, init: Init::Orthogonal, gain })?;
                lines.push(line(&format!("orthogonal · {gain}"), style, &runs, 0));
            }
            panels.push(Panel { title: cell.into(), lines });
        }
        Ok(panels)
    }

    fn training(&self) -> Result<Vec<Panel>> {
        let arms = [
            ("rnn_linear", Init::Orthogonal),
            ("rnn_tanh", Init::Orthogonal),
            ("binary_gate", Init::Uniform),
            ("gru", Init::Uniform),
            ("lstm", Init::Uniform),
            ("lstm", Init::Chrono),
        ];
        arms.into_iter().map(|(cell, init)| in_training(self.ctx, cell, init, self.seeds)).collect()
    }
}

/// The adding task at a lag of 30, evaluated after these numbers of updates.
const SNAPSHOTS: [u64; 4] = [0, 200, 600, 2000];
const LEARNT_LAG: usize = 30;

fn in_training(ctx: &Context, cell: &str, init: Init, seeds: u64) -> Result<Panel> {
    let problem = Problem { task: Task::Adding, lag: LEARNT_LAG };
    let size = Size { hidden: 32, batch: 16, updates: 2000 };
    // On longer rows of the same kind, so that lags beyond the one that is learnt show too.
    let longer = Problem { task: Task::Adding, lag: 100 };
    let lags: Vec<usize> = LAGS.into_iter().filter(|&lag| lag <= longer.lag).collect();
    let learning_rate = if crate::batch::has_gates(cell) { 3e-3 } else { 1e-3 };
    let mut snapshots = vec![Vec::new(); SNAPSHOTS.len()];
    for seed in 1..=seeds {
        let arm = Arm { cell: cell.into(), init, is_clipped: true };
        let mut run = Run::new(ctx, &Key { problem, arm, seed, learning_rate }, size)?;
        let inputs = longer.rows(Part::Test, seed, ROWS).inputs;
        let vectors = directions(ROWS, size.hidden, seed);
        for (updates, norms_of_seeds) in SNAPSHOTS.into_iter().zip(&mut snapshots) {
            run.update(updates - run.trainer.steps())?;
            let params = run.trainer.weights_blocking()?.rnn_params()?;
            norms_of_seeds.push(norms(run.trainer.rnn(), &params, &inputs, longer.lead(), &lags, &vectors)?);
        }
    }
    let lines = SNAPSHOTS.iter().zip(&snapshots).enumerate();
    let lines = lines.map(|(style, (updates, norms))| line(&format!("{updates} updates"), style, norms, 0));
    Ok(Panel { title: format!("{cell}, {}", init.name()), lines: lines.collect() })
}
