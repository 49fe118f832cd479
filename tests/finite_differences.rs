//! The reference's gradients against central differences of its own loss, for every cell variant.
#![expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN must fail")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{cell_variants, uniform};
use tidegate::reference::{Trace, backward, forward, forward_surrogate};
use tidegate::{Cell, DropoutKey, Gradients, Mode, OutputGradients, ParamLayout, RnnConfig, SeqShape, Sequence};

const STEP: f64 = 1e-6;
/// Relative to max(1, |gradient|). The loss is about 10, so rounding alone makes 1e-9.
const TOLERANCE: f64 = 1e-6;
const SHAPE: SeqShape = SeqShape { seq_len: 5, batch_size: 3 };

/// One tensor of a problem.
type Field = fn(&mut Problem) -> &mut Vec<f64>;

/// Data of one call. The loss is Σ d_output·output + Σ d_final_state·final_state.
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
}

impl Problem {
    fn new(cell: &dyn Cell, config: RnnConfig) -> Self {
        let rows = SHAPE.rows();
        let state = cell.states() * config.num_layers * config.num_directions() * SHAPE.batch_size * config.hidden_size;
        Self {
            params: uniform(1, ParamLayout::new(cell, &config).unwrap().len(), 0.7),
            input: uniform(2, rows * config.input_size, 1.0),
            initial_state: uniform(3, state, 0.8),
            d_output: uniform(4, rows * config.output_size(), 1.0),
            d_final_state: uniform(5, state, 1.0),
            lengths: None,
            reset: None,
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
        seq.reset = self.reset.as_deref();
        seq
    }

    fn forward(&self, cell: &dyn Cell) -> Trace {
        forward(cell, &self.config, &self.params, &self.sequence(), Mode::Training).unwrap()
    }

    fn backward(&self, cell: &dyn Cell, trace: &Trace) -> Gradients<f64> {
        let d = OutputGradients { d_output: &self.d_output, d_final_state: Some(&self.d_final_state) };
        backward(cell, &self.config, &self.params, &self.sequence(), trace, &d).unwrap()
    }

    fn loss(&self, cell: &dyn Cell, frozen: &Trace) -> f64 {
        let trace = forward_surrogate(cell, &self.config, &self.params, &self.sequence(), Mode::Training, frozen).unwrap();
        // d_output is NaN in the padding, where the output must be 0 and must not count.
        let pairs = trace.output.output.iter().zip(&self.d_output).filter(|(_, d)| !d.is_nan());
        let finals = trace.output.final_state.iter().zip(&self.d_final_state);
        pairs.chain(finals).map(|(y, d)| y * d).sum()
    }
}

/// Compares every element of one tensor; gives how many there are and how many lie at a kink.
fn compare(what: &str, cell: &dyn Cell, problem: &mut Problem, frozen: &Trace, field: Field, gradient: &[f64]) -> (usize, usize) {
    assert_eq!(field(problem).len(), gradient.len(), "{what}");
    let mut skipped = 0;
    for (index, &g) in gradient.iter().enumerate() {
        let x = field(problem)[index];
        if x.is_nan() {
            assert_eq!(g, 0.0, "{what}[{index}] lies in the padding");
            continue;
        }
        let mut central = |step: f64| {
            let mut loss_at = |x| {
                field(problem)[index] = x;
                problem.loss(cell, frozen)
            };
            let difference = (loss_at(x + step) - loss_at(x - step)) / (2.0 * step);
            field(problem)[index] = x;
            difference
        };
        let tolerance = TOLERANCE * g.abs().max(1.0);
        let expected = central(STEP);
        if !((g - expected).abs() <= tolerance) {
            // At a kink the difference depends on the step; where it does not, the gradient is wrong.
            let halved = central(STEP / 2.0);
            assert!((halved - expected).abs() > tolerance, "{what}[{index}]: gradient {g}, difference {expected}");
            skipped += 1;
        }
    }
    (gradient.len(), skipped)
}

/// Every gradient of every cell variant in that config.
fn check_all(config: RnnConfig, ragged: bool) {
    let variants = cell_variants();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((name, cell)) = variants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let problem = Problem::new(cell, config.clone());
            check(name, cell, if ragged { problem.ragged() } else { problem });
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

fn check(name: &str, cell: &dyn Cell, mut problem: Problem) {
    let trace = problem.forward(cell);
    for (t, b) in problem.padding() {
        let (row, n) = (problem.row(t, b), problem.config.output_size());
        assert!(trace.output.output[row * n..][..n].iter().all(|&y| y == 0.0), "{name}: output at t {t}, b {b}");
    }
    let g = problem.backward(cell, &trace);
    let fields: [(&str, Field, &[f64]); 3] = [
        ("d_input", |p| &mut p.input, &g.d_input),
        ("d_params", |p| &mut p.params, &g.d_params),
        ("d_initial_state", |p| &mut p.initial_state, &g.d_initial_state),
    ];
    let (mut total, mut skipped) = (0, 0);
    for (what, field, gradient) in fields {
        let (n, at_kinks) = compare(&format!("{name}: {what}"), cell, &mut problem, &trace, field, gradient);
        total += n;
        skipped += at_kinks;
    }
    assert!(skipped * 20 <= total, "{name}: {skipped} of {total} gradients lie at a kink");
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
fn everything_at_once() {
    let config = RnnConfig::new(3, 4).with_num_layers(2).with_bidirectional(true).with_dropout(0.3).with_batch_first(true);
    check_all(config, true);
}
