//! What the reference promises beyond gradients: lengths, resets and layouts, each against a simpler call; and errors.

mod common;

use std::ops::Range;
use std::sync::Arc;

use common::{cell_variants, uniform};
use tidegate::cell::by_name;
use tidegate::reference::{Trace, backward, forward, forward_surrogate};
use tidegate::{
    BinaryGate, Cell, Direction, Elman, Error, Gru, Lstm, Mode, Output, OutputGradients, ParamLayout, Result, RnnConfig,
    SeqShape, Sequence,
};

const SHAPE: SeqShape = SeqShape { seq_len: 6, batch_size: 3 };
const INPUT: usize = 2;
const HIDDEN: usize = 3;

fn config() -> RnnConfig {
    RnnConfig::new(INPUT, HIDDEN).with_num_layers(2).with_bidirectional(true)
}

fn params(cell: &dyn Cell) -> Vec<f64> {
    uniform(1, ParamLayout::new(cell, &config()).unwrap().len(), 0.7)
}

fn state(cell: &dyn Cell) -> Vec<f64> {
    uniform(2, cell.spec().states.len() * 4 * SHAPE.batch_size * HIDDEN, 0.8)
}

fn run(cell: &dyn Cell, seq: &Sequence<'_, f64>) -> Output<f64> {
    forward(cell, &config(), &params(cell), seq, Mode::Inference).unwrap().output
}

fn assert_close(what: &str, actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        assert!((a - e).abs() <= 1e-12, "{what}: {a} instead of {e}");
    }
}

/// One row of `[T, B, n]` data, some of its steps: `[steps, 1, n]`.
fn steps_of_row(data: &[f64], n: usize, b: usize, steps: Range<usize>) -> Vec<f64> {
    steps.flat_map(|t| data[(t * SHAPE.batch_size + b) * n..][..n].to_vec()).collect()
}

/// One row of a `[S, L·D, B, H]` state, of its forward or reverse slots: `[S, L·D, 1, H]`, the other slots 0.
fn state_of_row(state: &[f64], b: usize, forward: bool, reverse: bool) -> Vec<f64> {
    let slots = state.chunks_exact(SHAPE.batch_size * HIDDEN).enumerate();
    let row = slots.map(|(slot, rows)| (if slot % 2 == 0 { forward } else { reverse }, &rows[b * HIDDEN..][..HIDDEN]));
    row.flat_map(|(kept, row)| if kept { row.to_vec() } else { vec![0.0; HIDDEN] }).collect()
}

/// A row with lengths and resets gives what separate calls on the pieces between its resets give.
#[test]
fn lengths_and_resets_cut_a_row_into_pieces() {
    let lengths = [6, 4, 1];
    // Of row 1 and 2 also past the length, which counts for nothing.
    let resets: [&[usize]; 3] = [&[0, 2, 5], &[1, 3, 4], &[5]];
    let mut input = uniform(3, SHAPE.rows() * INPUT, 1.0);
    let mut reset = vec![0; SHAPE.rows()];
    for b in 0..SHAPE.batch_size {
        resets[b].iter().for_each(|t| reset[t * SHAPE.batch_size + b] = 1);
        (lengths[b]..SHAPE.seq_len).for_each(|t| input[(t * SHAPE.batch_size + b) * INPUT..][..INPUT].fill(f64::NAN));
    }
    let lengths_u32 = lengths.map(|length| length as u32);
    for (name, cell) in cell_variants() {
        let initial = state(&cell);
        let seq = Sequence::new(SHAPE, &input).with_initial_state(&initial);
        let whole = run(&cell, &seq.with_lengths(&lengths_u32).with_reset(&reset));
        for b in 0..SHAPE.batch_size {
            let mut ends: Vec<usize> = resets[b].iter().copied().filter(|&t| t > 0 && t < lengths[b]).collect();
            ends.push(lengths[b]);
            let mut start = 0;
            for &end in &ends {
                let (first, last) = (start == 0, end == lengths[b]);
                let from_start = first && !resets[b].contains(&0);
                let h0 = state_of_row(&initial, b, from_start, last);
                let x = steps_of_row(&input, INPUT, b, start..end);
                let shape = SeqShape { seq_len: end - start, batch_size: 1 };
                let piece = run(&cell, &Sequence::new(shape, &x).with_initial_state(&h0));
                let what = format!("{name}: row {b}, steps {start}..{end}");
                assert_close(&what, &steps_of_row(&whole.output, 2 * HIDDEN, b, start..end), &piece.output);
                // The forward direction ends in the last piece, the reverse direction in the first.
                let expected = piece.final_state.chunks_exact(HIDDEN);
                let actual = whole.final_state.chunks_exact(SHAPE.batch_size * HIDDEN);
                for (slot, (actual, expected)) in actual.zip(expected).enumerate() {
                    if if slot % 2 == 0 { last } else { first } {
                        assert_close(&format!("{what}: slot {slot}"), &actual[b * HIDDEN..][..HIDDEN], expected);
                    }
                }
                start = end;
            }
            let padding = steps_of_row(&whole.output, 2 * HIDDEN, b, lengths[b]..SHAPE.seq_len);
            assert!(padding.iter().all(|&y| y == 0.0), "{name}: row {b}, padding");
        }
    }
}

/// A network that runs from the end to the start is the reverse half of a bidirectional one.
#[test]
fn reverse_is_half_of_both() {
    let lengths = [6, 1, 4];
    let reset: Vec<u32> = (0..SHAPE.rows() as u32).map(|i| u32::from(i % 5 == 2)).collect();
    for (name, cell) in cell_variants() {
        let config = RnnConfig::new(INPUT, HIDDEN).with_bidirectional(true);
        let params = uniform(1, ParamLayout::new(&cell, &config).unwrap().len(), 0.7);
        let half = params.len() / 2;
        let input = uniform(3, SHAPE.rows() * INPUT, 1.0);
        let state_len = SHAPE.batch_size * HIDDEN;
        let initial = uniform(2, cell.spec().states.len() * 2 * state_len, 0.8);
        let second =
            |block: &[f64], len: usize| -> Vec<f64> { block.chunks_exact(len).skip(1).step_by(2).flatten().copied().collect() };
        let run = |config: &RnnConfig, params: &[f64], initial: &[f64], d_output: &[f64]| {
            let seq = Sequence::new(SHAPE, &input).with_initial_state(initial).with_lengths(&lengths).with_reset(&reset);
            let trace = forward(&cell, config, params, &seq, Mode::Training).unwrap();
            let d = OutputGradients { d_output, d_final_state: Some(initial) };
            let d = backward(&cell, config, params, &seq, &trace, &d).unwrap();
            (trace.output, d)
        };
        // Nothing comes back to the input through the forward half.
        let mut d_output = uniform(4, SHAPE.rows() * 2 * HIDDEN, 1.0);
        d_output.chunks_exact_mut(2 * HIDDEN).for_each(|row| row[..HIDDEN].fill(0.0));
        let (both, d_both) = run(&config, &params, &initial, &d_output);
        let config = config.with_direction(Direction::Reverse);
        let (reverse, d_reverse) = run(&config, &params[half..], &second(&initial, state_len), &second(&d_output, HIDDEN));
        assert_close(&name, &reverse.output, &second(&both.output, HIDDEN));
        assert_close(&name, &reverse.final_state, &second(&both.final_state, state_len));
        assert_close(&name, &d_reverse.d_params, &d_both.d_params[half..]);
        assert_close(&name, &d_reverse.d_initial_state, &second(&d_both.d_initial_state, state_len));
    }
}

/// Carrying the final state over is as good as one call: what streaming and truncated backpropagation rest on.
#[test]
fn chunks_carry_their_state() {
    for (name, cell) in cell_variants() {
        let config = RnnConfig::new(INPUT, HIDDEN).with_num_layers(2);
        let params = uniform(1, ParamLayout::new(&cell, &config).unwrap().len(), 0.7);
        let input = uniform(3, SHAPE.rows() * INPUT, 1.0);
        let run = |x: &[f64], h0: Option<&[f64]>| {
            let shape = SeqShape { seq_len: x.len() / INPUT / SHAPE.batch_size, ..SHAPE };
            let seq = Sequence { initial_state: h0, ..Sequence::new(shape, x) };
            forward(&cell, &config, &params, &seq, Mode::Inference).unwrap().output
        };
        let (head, tail) = input.split_at(2 * SHAPE.batch_size * INPUT);
        let head = run(head, None);
        let tail = run(tail, Some(&head.final_state));
        let whole = run(&input, None);
        assert_close(&name, &[head.output, tail.output].concat(), &whole.output);
        assert_close(&name, &tail.final_state, &whole.final_state);
    }
}

/// One step of one unit by hand, all weights different: row order, peephole order and options of every cell, and what its gates
/// were, also where it saves something else.
#[test]
fn cells_compute_their_formulas() {
    // In block order: W_ih, W_hh, b_ih and b_hh of all gates, then the peepholes of i, o, f. The binary gate is open at
    // one x and shut at the other.
    let w: Vec<f64> = (0..19).map(|k| 1.3 * f64::from(k * k + 2).sin()).collect();
    let (h, c) = (0.6, 0.8);
    let sigmoid = |a: f64| 1.0 / (1.0 + (-a).exp());
    for x in [0.9, -0.9] {
        let check = |cell: &dyn Cell, expected: &[f64], gates: &[f64]| {
            let config = RnnConfig::new(1, 1);
            let params = &w[..ParamLayout::new(cell, &config).unwrap().len()];
            let (input, initial) = ([x], [h, c]);
            let seq = Sequence::new(SeqShape { seq_len: 1, batch_size: 1 }, &input);
            let seq = seq.with_initial_state(&initial[..cell.spec().states.len()]);
            let step = forward(cell, &config, params, &seq, Mode::Training).unwrap();
            assert_close(&format!("{cell:?}"), &step.output.final_state, expected);
            let states: Vec<f64> = (0..cell.spec().states.len()).map(|k| step.state(0, 0, k).unwrap()[0]).collect();
            assert_eq!(states, step.output.final_state, "{cell:?}");
            let actual: Vec<f64> = (0..cell.spec().gates.len()).map(|k| step.gate(cell, 0, 0, k).unwrap()[0]).collect();
            assert_close(&format!("gates of {cell:?}"), &actual, gates);
        };

        let a = w[0] * x + w[1] * h + w[2] + w[3];
        check(&Elman::linear(), &[a], &[a]);
        check(&Elman::relu(), &[a.max(0.0)], &[a.max(0.0)]);
        let clipped = a.clamp(-0.25, 0.25).tanh();
        check(&Elman::tanh().with_clip(0.25), &[clipped], &[clipped]);

        let a = [0, 1].map(|gate| w[gate] * x + w[2 + gate] * h + w[4 + gate] + w[6 + gate]);
        let (g, n) = (if a[0] > 0.0 { 1.0 } else { 0.0 }, a[1].tanh());
        check(&BinaryGate, &[if a[0] > 0.0 { n } else { h }], &[g, n]);

        let wx = [0, 1, 2].map(|gate| w[gate] * x + w[6 + gate]);
        let rh = [0, 1, 2].map(|gate| w[3 + gate] * h + w[9 + gate]);
        let (r, z) = (sigmoid(wx[0] + rh[0]), sigmoid(wx[1] + rh[1]));
        let after = (wx[2] + r * (w[5] * h + w[11])).tanh();
        check(&Gru::default(), &[(1.0 - z) * after + z * h], &[r, z, after]);
        let before = (wx[2] + w[5] * (r * h) + w[11]).tanh();
        check(&Gru::reset_before(), &[(1.0 - z) * before + z * h], &[r, z, before]);
        let [r, z] = [0, 1].map(|gate| sigmoid((wx[gate] + rh[gate]).clamp(-0.25, 0.25)));
        let after = (wx[2] + r * (w[5] * h + w[11])).clamp(-0.25, 0.25).tanh();
        check(&Gru::default().with_clip(0.25), &[(1.0 - z) * after + z * h], &[r, z, after]);
        let before = (wx[2] + w[5] * (r * h) + w[11]).clamp(-0.25, 0.25).tanh();
        check(&Gru::reset_before().with_clip(0.25), &[(1.0 - z) * before + z * h], &[r, z, before]);

        let a = [0, 1, 2, 3].map(|gate| w[gate] * x + w[4 + gate] * h + w[8 + gate] + w[12 + gate]);
        let (p_i, p_o, p_f) = (w[16], w[17], w[18]);
        let lstm = |i: f64, f: f64, g: f64, o: &dyn Fn(f64) -> f64, cell_clip: f64| {
            let next = (f * c + i * g).clamp(-cell_clip, cell_clip);
            ([o(next) * next.tanh(), next], [i, f, g, o(next)])
        };
        let check = |cell: &Lstm, (states, gates): ([f64; 2], [f64; 4])| check(cell, &states, &gates);
        let plain = Lstm::default();
        let g = a[2].tanh();
        check(&plain, lstm(sigmoid(a[0]), sigmoid(a[1]), g, &|_| sigmoid(a[3]), 9.0));
        let (i, f) = (sigmoid(a[0] + p_i * c), sigmoid(a[1] + p_f * c));
        let o = |next: f64| sigmoid(a[3] + p_o * next);
        check(&plain.clone().with_peepholes(true), lstm(i, f, g, &o, 9.0));
        let all = plain.clone().with_peepholes(true).with_input_forget(true).with_cell_clip(0.25);
        check(&all, lstm(i, 1.0 - i, g, &o, 0.25));
        let [i, f, g, o] = a.map(|a| a.clamp(-0.25, 0.25));
        check(&plain.with_clip(0.25), lstm(sigmoid(i), sigmoid(f), g.tanh(), &|_| sigmoid(o), 9.0));
    }
}

/// A call with one argument of the wrong size or value.
struct Call {
    cell: Arc<dyn Cell>,
    config: RnnConfig,
    shape: SeqShape,
    params: usize,
    input: usize,
    initial_state: usize,
    lengths: Vec<u32>,
    reset: usize,
    d_output: usize,
    d_final_state: usize,
}

impl Call {
    fn good() -> Self {
        let cell = by_name("lstm").unwrap();
        let params = ParamLayout::new(&cell, &config()).unwrap().len();
        let state = cell.spec().states.len() * 4 * SHAPE.batch_size * HIDDEN;
        Self {
            cell,
            config: config(),
            shape: SHAPE,
            params,
            input: SHAPE.rows() * INPUT,
            initial_state: state,
            lengths: vec![6; SHAPE.batch_size],
            reset: SHAPE.rows(),
            d_output: SHAPE.rows() * 2 * HIDDEN,
            d_final_state: state,
        }
    }

    fn run(&self, mode: Mode, trace: Option<&Trace>) -> Result<Trace> {
        let zeros = |n| vec![0.0; n];
        let (params, input, initial_state) = (zeros(self.params), zeros(self.input), zeros(self.initial_state));
        let reset = vec![0; self.reset];
        let seq = Sequence::new(self.shape, &input).with_initial_state(&initial_state);
        let seq = seq.with_lengths(&self.lengths).with_reset(&reset);
        let made = forward(&self.cell, &self.config, &params, &seq, mode)?;
        let trace = trace.unwrap_or(&made);
        let (d_output, d_final_state) = (zeros(self.d_output), zeros(self.d_final_state));
        let d = OutputGradients { d_output: &d_output, d_final_state: Some(&d_final_state) };
        backward(&self.cell, &self.config, &params, &seq, trace, &d)?;
        forward_surrogate(&self.cell, &self.config, &params, &seq, mode, trace)?;
        Ok(made)
    }
}

type Spoil = fn(&mut Call);

#[test]
fn refuses_wrong_arguments_by_name() {
    let cases: [(&str, Spoil); 12] = [
        ("params", |c| c.params -= 1),
        ("input", |c| c.input += 1),
        ("initial_state", |c| c.initial_state /= 2),
        ("lengths", |c| c.lengths.truncate(2)),
        ("lengths[1]", |c| c.lengths[1] = 8),
        ("lengths[2]", |c| c.lengths[2] = 7),
        ("reset", |c| c.reset += 1),
        ("d_output", |c| c.d_output -= 1),
        ("d_final_state", |c| c.d_final_state = 0),
        ("seq_len", |c| c.shape.seq_len = 0),
        ("hidden_size", |c| c.config.hidden_size = 0),
        ("dropout", |c| c.config.dropout = 1.0),
    ];
    Call::good().run(Mode::Training, None).unwrap();
    for (name, spoil) in cases {
        let mut call = Call::good();
        spoil(&mut call);
        let message = call.run(Mode::Training, None).unwrap_err().to_string();
        assert!(message.contains(&format!("`{name}`")), "{name}: {message}");
    }
}

#[test]
fn refuses_the_trace_of_another_call() {
    let refused = |call: &Call, trace: Option<&Trace>, mode| match call.run(mode, trace) {
        Err(Error::Config(message)) => assert!(message.contains("trace"), "{message}"),
        other => panic!("{other:?}"),
    };
    refused(&Call::good(), None, Mode::Inference);
    let trace = Call::good().run(Mode::Training, None).unwrap();
    let mut other = Call::good();
    other.config = config().with_batch_first(true);
    refused(&other, Some(&trace), Mode::Training);

    // The same network but for what the cell saves.
    let rnn = |cell: Elman| {
        let cell: Arc<dyn Cell> = Arc::new(cell);
        let params = ParamLayout::new(&cell, &config()).unwrap().len();
        let state = 4 * SHAPE.batch_size * HIDDEN;
        Call { cell, params, initial_state: state, d_final_state: state, ..Call::good() }
    };
    let trace = rnn(Elman::tanh()).run(Mode::Training, None).unwrap();
    refused(&rnn(Elman::tanh().with_clip(1.0)), Some(&trace), Mode::Training);
}

#[test]
fn refuses_to_show_what_is_not_there() {
    let good = Call::good();
    let trace = good.run(Mode::Training, None).unwrap();
    let message = |result: Result<()>| result.unwrap_err().to_string();
    for (index, named) in [
        ([2, 0, 0], "`layer`: 2 is outside 0..=1"),
        ([0, 2, 0], "`direction`: 2 is outside 0..=1"),
        ([1, 1, 2], "`state`: 2 is outside 0..=1"),
        ([1, 1, 4], "`gate`: 4 is outside 0..=3"),
    ] {
        let [layer, direction, k] = index;
        let shown = if k == 4 {
            trace.gate(&good.cell, layer, direction, k).map(|_| ())
        } else {
            trace.state(layer, direction, k).map(|_| ())
        };
        assert_eq!(message(shown), named);
    }
    assert!(message(trace.gate(&Gru::default(), 0, 0, 0).map(|_| ())).contains("another cell than `gru`"));
    let params = vec![0.0; good.params];
    let input = vec![0.0; good.input];
    let seq = Sequence::new(SHAPE, &input);
    let trace = forward(&good.cell, &config(), &params, &seq, Mode::Inference).unwrap();
    assert!(message(trace.state(0, 0, 0).map(|_| ())).contains("inference"));
}
