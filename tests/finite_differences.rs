//! The reference's gradients against central differences of its own loss, for every cell variant.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{cell_variants, uniform};
use tidegate::check::{FiniteDifferences, finite_differences};
use tidegate::reference::{Trace, forward};
use tidegate::{Cell, Direction, DropoutKey, Mode, OutputGradients, ParamLayout, RnnConfig, SeqShape, Sequence};

const SHAPE: SeqShape = SeqShape { seq_len: 5, batch_size: 3 };

/// Data of one call.
#[derive(Clone)]
struct Problem {
    config: RnnConfig,
    params: Vec<f64>,
    input: Vec<f64>,
    initial_state: Vec<f64>,
    d_output: Vec<f64>,
    d_final_state: Vec<f64>,
    lengths: Option<Vec<u32>>,
    reset: Option<Vec<u32>>,
    hold: Option<Vec<u32>>,
}

impl Problem {
    fn new(cell: &dyn Cell, config: RnnConfig) -> Self {
        let rows = SHAPE.rows();
        let values = config.h_size() + (cell.spec().states.len() - 1) * config.hidden_size;
        let state = config.num_layers * config.num_directions() * SHAPE.batch_size * values;
        Self {
            params: uniform(1, ParamLayout::new(cell, &config).unwrap().len(), 0.7),
            input: uniform(2, rows * config.input_size, 1.0),
            initial_state: uniform(3, state, 0.8),
            d_output: uniform(4, rows * config.output_size(), 1.0),
            d_final_state: uniform(5, state, 1.0),
            lengths: None,
            reset: None,
            hold: None,
            config,
        }
    }

    /// Ragged and reset in every way: a reset at t = 0, within a sequence, at its last step and past it.
    fn ragged(self) -> Self {
        let mut reset = vec![0; SHAPE.rows()];
        for (t, b) in [(0, 0), (3, 0), (2, 1), (4, 1), (1, 2)] {
            reset[t * SHAPE.batch_size + b] = 7;
        }
        let mut problem = Self { lengths: Some(vec![5, 3, 1]), reset: Some(reset), ..self };
        for (t, b) in problem.padding() {
            problem.input_row(t, b).fill(f64::NAN);
            problem.d_output_row(t, b).fill(f64::NAN);
        }
        problem
    }

    /// Held at the start, within, at a reset, at the end of a length and throughout.
    fn held(self) -> Self {
        let mut hold = vec![0; SHAPE.rows()];
        for (t, b) in [(0, 0), (1, 0), (3, 0), (1, 1), (2, 1), (0, 2)] {
            hold[t * SHAPE.batch_size + b] = 5;
        }
        let mut problem = Self { hold: Some(hold), ..self };
        for (t, b) in problem.held_steps() {
            problem.input_row(t, b).fill(f64::NAN);
            if problem.config.zero_output_for_mask {
                problem.d_output_row(t, b).fill(f64::NAN);
            }
        }
        problem
    }

    fn held_steps(&self) -> Vec<(usize, usize)> {
        let all = (0..SHAPE.seq_len).flat_map(|t| (0..SHAPE.batch_size).map(move |b| (t, b)));
        all.filter(|&(t, b)| self.hold.as_ref().is_some_and(|hold| hold[t * SHAPE.batch_size + b] != 0)).collect()
    }

    fn padding(&self) -> Vec<(usize, usize)> {
        let all = (0..SHAPE.seq_len).flat_map(|t| (0..SHAPE.batch_size).map(move |b| (t, b)));
        all.filter(|&(t, b)| self.lengths.as_ref().is_some_and(|lengths| t >= lengths[b] as usize)).collect()
    }

    fn row(&self, t: usize, b: usize) -> usize {
        if self.config.batch_first { b * SHAPE.seq_len + t } else { t * SHAPE.batch_size + b }
    }

    fn input_row(&mut self, t: usize, b: usize) -> &mut [f64] {
        let (row, n) = (self.row(t, b), self.config.input_size);
        &mut self.input[row * n..][..n]
    }

    fn d_output_row(&mut self, t: usize, b: usize) -> &mut [f64] {
        let (row, n) = (self.row(t, b), self.config.output_size());
        &mut self.d_output[row * n..][..n]
    }

    fn sequence(&self) -> Sequence<'_, f64> {
        let mut seq = Sequence::new(SHAPE, &self.input).with_initial_state(&self.initial_state);
        seq = seq.with_dropout(DropoutKey { seed: 5, call: 2 });
        seq.lengths = self.lengths.as_deref();
        (seq.reset, seq.hold) = (self.reset.as_deref(), self.hold.as_deref());
        seq
    }

    fn forward(&self, cell: &dyn Cell) -> Trace {
        forward(cell, &self.config, &self.params, &self.sequence(), Mode::Training).unwrap()
    }
}

/// Every gradient of every cell variant in that config.
fn check_all(config: RnnConfig, ragged: bool) {
    let mut variants = cell_variants();
    variants.retain(|(_, cell)| config.proj_size == 0 || cell.spec().projectable);
    assert!(!variants.is_empty());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((name, cell)) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let problem = Problem::new(cell, config.clone());
            check(name, cell, if ragged { problem.ragged().held() } else { problem });
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

fn check(name: &str, cell: &dyn Cell, problem: Problem) {
    let trace = problem.forward(cell);
    for (t, b) in problem.padding() {
        let (row, n) = (problem.row(t, b), problem.config.output_size());
        assert!(trace.output.output[row * n..][..n].iter().all(|&y| y == 0.0), "{name}: output at t {t}, b {b}");
    }
    let d = OutputGradients { d_output: &problem.d_output, d_final_state: Some(&problem.d_final_state) };
    let found = finite_differences(cell, &problem.config, &problem.params, &problem.sequence(), &d);
    let FiniteDifferences { compared, at_kinks } = found.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(at_kinks * 20 <= compared + at_kinks, "{name}: {at_kinks} gradients lie at a kink, {compared} do not");
}

#[test]
fn one_layer() {
    check_all(RnnConfig::new(3, 4), false);
}

#[test]
fn two_layers_without_bias() {
    check_all(RnnConfig::new(3, 4).with_num_layers(2).with_bias(false), false);
}

#[test]
fn from_the_end_to_the_start() {
    check_all(RnnConfig::new(3, 4).with_num_layers(2).with_direction(Direction::Reverse), true);
}

#[test]
fn held_steps_put_out_zeros() {
    check_all(RnnConfig::new(3, 4).with_num_layers(2).with_zero_output_for_mask(true), true);
}

/// Peepholes and a clipped c among them.
#[test]
fn projected() {
    let config = RnnConfig::new(3, 4).with_num_layers(2).with_bidirectional(true).with_dropout(0.3).with_proj_size(2);
    check_all(config, true);
    check_all(RnnConfig::new(3, 4).with_proj_size(3).with_bias(false), false);
}

#[test]
fn everything_at_once() {
    let config = RnnConfig::new(3, 4).with_num_layers(2).with_bidirectional(true).with_dropout(0.3).with_batch_first(true);
    check_all(config, true);
}
