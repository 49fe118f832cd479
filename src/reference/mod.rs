//! The truth: plain float64 forward and backpropagation through time for any [`Cell`].
//!
//! Everything inside is time-major; `batch_first` matters only where input and output are read and written. Arrays are
//! flat, row-major, their shapes in the comments, with T = `seq_len`, B = `batch_size`, I_l = input size of the layer,
//! H = `hidden_size`, G = gates, S = states, D = directions, K = saved values. The step of a row is *active* while it
//! lies within the row's length.

#[cfg(feature = "tools")]
pub mod device;

use std::mem;
use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use crate::cell::{BackwardStep, Cell, ForwardStep, unit_rows};
use crate::error::{Error, Result, check_len};
use crate::network::config::RnnConfig;
use crate::network::dropout;
use crate::network::params::{ParamBlock, ParamLayout};
use crate::network::sequence::{Gradients, Mode, Output, OutputGradients, SeqShape, Sequence, state_len};

/// What [`forward`] gives: the output and, in training, all that [`backward`] needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// What the network gives.
    pub output: Output<f64>,
    config: RnnConfig,
    shape: SeqShape,
    states: usize,
    saved: usize,
    /// Empty in inference.
    layers: Vec<LayerTrace>,
}

#[derive(Debug, Clone, PartialEq)]
struct LayerTrace {
    /// `[T, B, I_l]`: what the layer read, after dropout; 0 past a length.
    input: Vec<f64>,
    directions: Vec<DirectionTrace>,
}

/// What each step of a direction keeps; 0 past a length.
#[derive(Debug, Clone, PartialEq)]
struct DirectionTrace {
    /// `[S, T, B, H]`: states before the step; 0 where a reset cuts the edge.
    prev: Vec<f64>,
    /// `[S, T, B, H]`: states after the step.
    next: Vec<f64>,
    /// `[K, T, B, H]`: what the cell saved.
    saved: Vec<f64>,
    /// The smallest [`Cell::margin`] of all steps.
    margin: f64,
}

impl Trace {
    /// How far the nearest step stayed from a jump of the cell, by [`Cell::margin`]; infinite in inference.
    pub fn margin(&self) -> f64 {
        let directions = self.layers.iter().flat_map(|layer| &layer.directions);
        directions.map(|direction| direction.margin).fold(f64::INFINITY, f64::min)
    }

    /// `[T, B, H]`: what a state of a layer and direction is after each step; 0 past a row's length. Time-major, whatever the
    /// config. State 0 is h, 1 of an LSTM is c. Needs a training forward.
    pub fn state(&self, layer: usize, direction: usize, state: usize) -> Result<&[f64]> {
        check_index("state", state, self.states)?;
        let len = self.shape.rows() * self.config.hidden_size;
        Ok(&self.direction(layer, direction)?.next[state * len..][..len])
    }

    /// `[T, B, H]`: the output of a gate, by its index in [`Cell::gates`], at each step; time-major, and without meaning past a row's
    /// length. `cell` is that of the forward, which must have been one of training.
    ///
    /// What a cell saved is not always this: where backward needs a gate's pre-activation, that is kept in its place.
    pub fn gate(&self, cell: &dyn Cell, layer: usize, direction: usize, gate: usize) -> Result<Vec<f64>> {
        if self.states != cell.states() || self.saved != cell.saved() {
            return Err(Error::Config(format!("the trace is of a call with another cell than `{}`", cell.name())));
        }
        check_index("gate", gate, cell.gates().len())?;
        let kept = self.direction(layer, direction)?;
        let stride = self.shape.rows() * self.config.hidden_size;
        let (mut saved, mut next) = (vec![0.0; self.saved], vec![0.0; self.states]);
        let value = |at| {
            gather(&mut saved, &kept.saved, at, stride);
            gather(&mut next, &kept.next, at, stride);
            cell.gate_value(gate, &saved, &next)
        };
        let values: Option<Vec<f64>> = (0..stride).map(value).collect();
        values.ok_or_else(|| Error::Config(format!("cell `{}` does not tell the values of its gates", cell.name())))
    }

    fn direction(&self, layer: usize, direction: usize) -> Result<&DirectionTrace> {
        self.check_training()?;
        check_index("layer", layer, self.layers.len())?;
        check_index("direction", direction, self.config.num_directions())?;
        Ok(&self.layers[layer].directions[direction])
    }

    /// An inference forward keeps nothing.
    fn check_training(&self) -> Result<()> {
        if self.layers.is_empty() {
            return Err(Error::Config("the trace is of an inference forward, must be of a training forward".into()));
        }
        Ok(())
    }
}

fn check_index(name: &str, index: usize, len: usize) -> Result<()> {
    if index < len {
        return Ok(());
    }
    Err(Error::Range { name: name.into(), value: index as u64, min: 0, max: len as u64 - 1 })
}

/// Runs the network; `params` is the flat block that [`ParamLayout`] describes.
pub fn forward(cell: &dyn Cell, config: &RnnConfig, params: &[f64], seq: &Sequence<'_, f64>, mode: Mode) -> Result<Trace> {
    Call::new(cell, config, params, seq)?.forward(mode, None)
}

/// As [`forward`], with [`Cell::surrogate`] in place of [`Cell::forward`]: the function whose true derivative
/// [`backward`] computes, for finite differences around `frozen`, the training trace of the unperturbed call.
pub fn forward_surrogate(
    cell: &dyn Cell,
    config: &RnnConfig,
    params: &[f64],
    seq: &Sequence<'_, f64>,
    mode: Mode,
    frozen: &Trace,
) -> Result<Trace> {
    let call = Call::new(cell, config, params, seq)?;
    call.check_trace(frozen)?;
    call.forward(mode, Some(frozen))
}

/// Gradients of any loss, from its gradients `d` in the output of the training forward that gave `trace`.
pub fn backward(
    cell: &dyn Cell,
    config: &RnnConfig,
    params: &[f64],
    seq: &Sequence<'_, f64>,
    trace: &Trace,
    d: &OutputGradients<'_, f64>,
) -> Result<Gradients<f64>> {
    let call = Call::new(cell, config, params, seq)?;
    call.check_trace(trace)?;
    check_len("d_output", call.rows * config.output_size(), d.d_output.len())?;
    if let Some(d_final_state) = d.d_final_state {
        check_len("d_final_state", state_len(cell, config, seq.shape), d_final_state.len())?;
    }
    Ok(call.backward(trace, d))
}

/// One validated call: its arguments and the sizes that all loops share.
struct Call<'a> {
    cell: &'a dyn Cell,
    config: &'a RnnConfig,
    layout: ParamLayout,
    params: &'a [f64],
    seq: &'a Sequence<'a, f64>,
    /// T.
    seq_len: usize,
    /// B.
    batch: usize,
    /// T·B.
    rows: usize,
    /// H.
    hidden: usize,
    /// G·H: rows of the weight matrices.
    gate_rows: usize,
    /// How many of those multiply h; the rest multiply the cell's mid value.
    first_rows: usize,
}

impl<'a> Call<'a> {
    fn new(cell: &'a dyn Cell, config: &'a RnnConfig, params: &'a [f64], seq: &'a Sequence<'a, f64>) -> Result<Self> {
        let layout = ParamLayout::new(cell, config)?;
        check_len("params", layout.len(), params.len())?;
        seq.validate(cell, config)?;
        let (gates, first, states) = (cell.gates().len(), cell.first_phase_gates(), cell.states());
        if first > gates || states == 0 {
            let what = format!("cell `{}`: {first} of {gates} gates in the first phase, {states} states", cell.name());
            return Err(Error::Config(what));
        }
        let SeqShape { seq_len, batch_size: batch } = seq.shape;
        let (rows, hidden) = (seq.shape.rows(), config.hidden_size);
        let (gate_rows, first_rows) = (gates * hidden, first * hidden);
        Ok(Self { cell, config, layout, params, seq, seq_len, batch, rows, hidden, gate_rows, first_rows })
    }

    /// A trace of another call would be read out of bounds.
    fn check_trace(&self, trace: &Trace) -> Result<()> {
        trace.check_training()?;
        let same = trace.config == *self.config && trace.shape == self.seq.shape;
        if !(same && trace.states == self.cell.states() && trace.saved == self.cell.saved()) {
            return Err(Error::Config("the trace is of a call with another cell, config or shape".into()));
        }
        Ok(())
    }

    /// Whether step `t` lies within the length of row `b`.
    fn active(&self, t: usize, b: usize) -> bool {
        self.seq.lengths.is_none_or(|lengths| t < lengths[b] as usize)
    }

    /// Whether a reset cuts the edge by which the state enters step `t` of row `b`.
    fn cut(&self, direction: usize, t: usize, b: usize) -> bool {
        // The edge between t − 1 and t is named after t; the reverse direction enters t from t + 1.
        let edge = t + usize::from(self.config.runs_back(direction));
        edge < self.seq_len && self.active(edge, b) && self.seq.reset.is_some_and(|reset| reset[edge * self.batch + b] != 0)
    }

    /// Steps in the order in which a direction processes them.
    fn steps(&self, direction: usize) -> Vec<usize> {
        if self.config.runs_back(direction) { (0..self.seq_len).rev().collect() } else { (0..self.seq_len).collect() }
    }

    /// Whether W_hh comes in two products per step.
    fn two_phase(&self) -> bool {
        self.first_rows < self.gate_rows
    }

    /// `[T, B, n]` from data in the caller's order; 0 past a length, so that nothing there is ever read.
    fn read(&self, data: &[f64], n: usize) -> Vec<f64> {
        let mut packed = vec![0.0; self.rows * n];
        for t in 0..self.seq_len {
            for b in (0..self.batch).filter(|&b| self.active(t, b)) {
                let (to, from) = ((t * self.batch + b) * n, self.seq.shape.row(self.config.batch_first, t, b) * n);
                packed[to..to + n].copy_from_slice(&data[from..from + n]);
            }
        }
        packed
    }

    /// `[T, B, n]` in the caller's order.
    fn write(&self, packed: &[f64], n: usize) -> Vec<f64> {
        let mut data = vec![0.0; packed.len()];
        for t in 0..self.seq_len {
            for b in 0..self.batch {
                let (from, to) = ((t * self.batch + b) * n, self.seq.shape.row(self.config.batch_first, t, b) * n);
                data[to..to + n].copy_from_slice(&packed[from..from + n]);
            }
        }
        data
    }

    /// Where state `k` of a layer and direction lies in a `[S, L·D, B, H]` block.
    fn state_range(&self, k: usize, layer: usize, direction: usize) -> Range<usize> {
        let d = self.config.num_directions();
        let (slots, len) = (self.config.num_layers * d, self.batch * self.hidden);
        let start = (k * slots + layer * d + direction) * len;
        start..start + len
    }

    /// `[S, B, H]` of a layer and direction.
    fn read_state(&self, block: Option<&[f64]>, layer: usize, direction: usize) -> Vec<f64> {
        let len = self.batch * self.hidden;
        let mut state = vec![0.0; self.cell.states() * len];
        for (k, state) in state.chunks_exact_mut(len).enumerate() {
            if let Some(block) = block {
                state.copy_from_slice(&block[self.state_range(k, layer, direction)]);
            }
        }
        state
    }

    fn write_state(&self, state: &[f64], layer: usize, direction: usize, block: &mut [f64]) {
        for (k, state) in state.chunks_exact(self.batch * self.hidden).enumerate() {
            block[self.state_range(k, layer, direction)].copy_from_slice(state);
        }
    }

    /// Zeroes the rows of a `[S, B, H]` state whose edge into step `t` is cut.
    fn cut_state(&self, direction: usize, t: usize, state: &mut [f64]) {
        for state in state.chunks_exact_mut(self.batch * self.hidden) {
            for b in (0..self.batch).filter(|&b| self.cut(direction, t, b)) {
                state[b * self.hidden..][..self.hidden].fill(0.0);
            }
        }
    }

    /// Dropout between a layer and the next, of outputs and in backward of their gradients.
    fn drop_out(&self, layer: usize, y: &mut [f64]) {
        if self.config.dropout > 0.0 {
            for (index, y) in y.iter_mut().enumerate() {
                *y *= dropout::scale(self.seq.dropout, layer, index, self.config.dropout);
            }
        }
    }

    fn weights(&self, layer: usize, direction: usize) -> Weights<'a> {
        let ParamBlock { weight_ih, weight_hh, bias, unit, .. } = self.layout.block(layer, direction);
        let (params, hidden, gate_rows) = (self.params, self.hidden, self.gate_rows);
        let input = self.config.layer_input_size(layer);
        Weights {
            ih: matrix(&params[weight_ih..][..gate_rows * input], input),
            hh: matrix(&params[weight_hh..][..gate_rows * hidden], hidden),
            bias_ih: bias.map(|at| &params[at..][..gate_rows]),
            bias_hh: bias.map(|at| &params[at + gate_rows..][..gate_rows]),
            unit: unit.map_or(&[], |at| &params[at..][..unit_rows(self.cell) * hidden]),
        }
    }

    fn forward(&self, mode: Mode, frozen: Option<&Trace>) -> Result<Trace> {
        let config = self.config;
        let mut final_state = vec![0.0; state_len(self.cell, config, self.seq.shape)];
        let mut layers = Vec::new();
        let mut x = self.read(self.seq.input, config.input_size);
        for layer in 0..config.num_layers {
            let mut y = vec![0.0; self.rows * config.output_size()];
            let mut directions = Vec::new();
            for direction in 0..config.num_directions() {
                let frozen = frozen.map(|trace| &trace.layers[layer].directions[direction]);
                directions.push(self.forward_direction(layer, direction, frozen, &x, &mut y, &mut final_state));
            }
            let input = mem::replace(&mut x, y);
            if mode == Mode::Training {
                layers.push(LayerTrace { input, directions });
                if layer + 1 < config.num_layers {
                    self.drop_out(layer, &mut x);
                }
            }
        }
        let output = Output { output: self.write(&x, config.output_size()), final_state };
        let (states, saved) = (self.cell.states(), self.cell.saved());
        Ok(Trace { output, config: config.clone(), shape: self.seq.shape, states, saved, layers })
    }

    /// One direction of one layer: from `x` `[T, B, I_l]` to its columns of `y` `[T, B, D·H]`.
    fn forward_direction(
        &self,
        layer: usize,
        direction: usize,
        frozen: Option<&DirectionTrace>,
        x: &[f64],
        y: &mut [f64],
        final_state: &mut [f64],
    ) -> DirectionTrace {
        let Self { cell, batch, rows, hidden, gate_rows, first_rows, .. } = *self;
        let w = self.weights(layer, direction);
        let zeros = |n: usize| vec![0.0; n * rows * hidden];
        let mut kept = DirectionTrace {
            prev: zeros(cell.states()),
            next: zeros(cell.states()),
            saved: zeros(cell.saved()),
            margin: f64::INFINITY,
        };
        let mut u = Unit::new(cell);

        // The input part of all gates at all steps in one product: wx [T·B, G·H] = x·W_ihᵀ + b_ih.
        let mut wx = repeat(w.bias_ih, rows, gate_rows);
        add_product(matrix(x, w.ih.ncols()), w.ih.t(), matrix_mut(&mut wx, gate_rows));

        let mut state = self.read_state(self.seq.initial_state, layer, direction);
        for t in self.steps(direction) {
            self.cut_state(direction, t, &mut state);

            // The recurrent part: rh [B, G·H] = h·W_hhᵀ + b_hh, h being state 0.
            let mut rh = repeat(w.bias_hh, batch, gate_rows);
            let h = matrix(&state[..batch * hidden], hidden);
            add_product(h, w.hh.slice(s![..first_rows, ..]).t(), matrix_mut(&mut rh, gate_rows).slice_mut(s![.., ..first_rows]));
            if self.two_phase() {
                let mut mid = vec![0.0; batch * hidden];
                for (b, j) in self.active_units(t) {
                    gather(&mut u.wx, &wx, (t * batch + b) * gate_rows + j, hidden);
                    gather(&mut u.rh, &rh, b * gate_rows + j, hidden);
                    gather(&mut u.prev, &state, b * hidden + j, batch * hidden);
                    gather(&mut u.unit, w.unit, j, hidden);
                    mid[b * hidden + j] = cell.mid(&u.wx, &u.rh, &u.prev, &u.unit);
                }
                let mut rh = matrix_mut(&mut rh, gate_rows);
                add_product(matrix(&mid, hidden), w.hh.slice(s![first_rows.., ..]).t(), rh.slice_mut(s![.., first_rows..]));
            }

            for (b, j) in self.active_units(t) {
                let at = (t * batch + b) * hidden + j;
                gather(&mut u.wx, &wx, (t * batch + b) * gate_rows + j, hidden);
                gather(&mut u.rh, &rh, b * gate_rows + j, hidden);
                gather(&mut u.prev, &state, b * hidden + j, batch * hidden);
                gather(&mut u.unit, w.unit, j, hidden);
                let step =
                    ForwardStep { wx: &u.wx, rh: &u.rh, prev: &u.prev, unit: &u.unit, next: &mut u.next, saved: &mut u.saved };
                match frozen {
                    None => cell.forward(step),
                    Some(frozen) => {
                        gather(&mut u.frozen, &frozen.saved, at, rows * hidden);
                        cell.surrogate(step, &u.frozen);
                    }
                }
                scatter(&u.prev, &mut kept.prev, at, rows * hidden);
                scatter(&u.next, &mut kept.next, at, rows * hidden);
                scatter(&u.saved, &mut kept.saved, at, rows * hidden);
                kept.margin = kept.margin.min(cell.margin(&u.saved));
                scatter(&u.next, &mut state, b * hidden + j, batch * hidden);
                y[(t * batch + b) * self.config.output_size() + direction * hidden + j] = u.next[0];
            }
        }
        self.write_state(&state, layer, direction, final_state);
        kept
    }

    fn backward(&self, trace: &Trace, d: &OutputGradients<'_, f64>) -> Gradients<f64> {
        let config = self.config;
        let mut gradients = Gradients {
            d_input: Vec::new(),
            d_params: vec![0.0; self.params.len()],
            d_initial_state: vec![0.0; state_len(self.cell, config, self.seq.shape)],
        };
        let mut d_y = self.read(d.d_output, config.output_size());
        for (layer, kept) in trace.layers.iter().enumerate().rev() {
            let mut d_x = vec![0.0; kept.input.len()];
            for direction in 0..config.num_directions() {
                self.backward_direction(layer, direction, kept, &d_y, d.d_final_state, &mut d_x, &mut gradients);
            }
            if layer > 0 {
                self.drop_out(layer - 1, &mut d_x);
            }
            d_y = d_x;
        }
        // A product's 0 past a length is NaN where a weight is not finite.
        for (t, b) in (0..self.seq_len).flat_map(|t| (0..self.batch).map(move |b| (t, b))).filter(|&(t, b)| !self.active(t, b)) {
            d_y[(t * self.batch + b) * config.input_size..][..config.input_size].fill(0.0);
        }
        gradients.d_input = self.write(&d_y, config.input_size);
        gradients
    }

    /// One direction of one layer: from its columns of `d_y` `[T, B, D·H]`, adds to `d_x` `[T, B, I_l]` and writes the
    /// gradients of its parameters and initial state.
    #[expect(clippy::too_many_arguments, reason = "layer and direction, what was kept, gradients in, gradients out")]
    fn backward_direction(
        &self,
        layer: usize,
        direction: usize,
        kept: &LayerTrace,
        d_y: &[f64],
        d_final_state: Option<&[f64]>,
        d_x: &mut [f64],
        gradients: &mut Gradients<f64>,
    ) {
        let Self { cell, batch, rows, hidden, gate_rows, first_rows, .. } = *self;
        let w = self.weights(layer, direction);
        let LayerTrace { input: x, directions } = kept;
        let kept = &directions[direction];
        let mut u = Unit::new(cell);
        let mut d_wx = vec![0.0; rows * gate_rows];
        let mut d_rh = vec![0.0; rows * gate_rows];
        let mut d_unit = vec![0.0; w.unit.len()];

        let mut d_state = self.read_state(d_final_state, layer, direction);
        for &t in self.steps(direction).iter().rev() {
            // Gradient of the states before the step; past its length a row hands the gradient on unchanged.
            let mut d_prev = d_state.clone();
            let mut d_mid = vec![0.0; batch * hidden];
            // The first of two phases takes d_mid as 0: it is there for d_rh of the second phase's gates.
            for last in if self.two_phase() { [false, true].iter() } else { [true].iter() } {
                for (b, j) in self.active_units(t) {
                    let at = (t * batch + b) * hidden + j;
                    gather(&mut u.saved, &kept.saved, at, rows * hidden);
                    gather(&mut u.prev, &kept.prev, at, rows * hidden);
                    gather(&mut u.next, &kept.next, at, rows * hidden);
                    gather(&mut u.unit, w.unit, j, hidden);
                    gather(&mut u.d_next, &d_state, b * hidden + j, batch * hidden);
                    u.d_next[0] += d_y[(t * batch + b) * self.config.output_size() + direction * hidden + j];
                    cell.backward(BackwardStep {
                        saved: &u.saved,
                        prev: &u.prev,
                        next: &u.next,
                        unit: &u.unit,
                        d_next: &u.d_next,
                        d_mid: d_mid[b * hidden + j],
                        d_wx: &mut u.d_wx,
                        d_rh: &mut u.d_rh,
                        d_prev: &mut u.d_prev,
                        d_unit: &mut u.d_unit,
                    });
                    scatter(&u.d_wx, &mut d_wx, (t * batch + b) * gate_rows + j, hidden);
                    scatter(&u.d_rh, &mut d_rh, (t * batch + b) * gate_rows + j, hidden);
                    scatter(&u.d_prev, &mut d_prev, b * hidden + j, batch * hidden);
                    if *last {
                        scatter_add(&u.d_unit, &mut d_unit, j, hidden);
                    }
                }
                let d_rh = matrix(&d_rh[t * batch * gate_rows..][..batch * gate_rows], gate_rows);
                if !last {
                    let (d_rh, hh) = (d_rh.slice(s![.., first_rows..]), w.hh.slice(s![first_rows.., ..]));
                    add_product(d_rh, hh, matrix_mut(&mut d_mid, hidden));
                } else {
                    let (d_rh, hh) = (d_rh.slice(s![.., ..first_rows]), w.hh.slice(s![..first_rows, ..]));
                    add_product(d_rh, hh, matrix_mut(&mut d_prev[..batch * hidden], hidden));
                }
            }
            for b in (0..batch).filter(|&b| !self.active(t, b)) {
                d_prev[b * hidden..][..hidden].copy_from_slice(&d_state[b * hidden..][..hidden]);
            }
            self.cut_state(direction, t, &mut d_prev);
            d_state = d_prev;
        }
        self.write_state(&d_state, layer, direction, &mut gradients.d_initial_state);

        // All steps at once: d_x += d_wx·W_ih and, of the weights, d_W_ih = d_wxᵀ·x and d_W_hh = d_rhᵀ·(h or mid).
        let (d_wx, d_rh) = (matrix(&d_wx, gate_rows), matrix(&d_rh, gate_rows));
        let input = w.ih.ncols();
        add_product(d_wx, w.ih, matrix_mut(d_x, input));
        let block = self.layout.block(layer, direction);
        let d_params = &mut gradients.d_params;
        let d_weight_ih = &mut d_params[block.weight_ih..][..gate_rows * input];
        add_product(d_wx.t(), matrix(x, input), matrix_mut(d_weight_ih, input));
        let d_weight_hh = &mut d_params[block.weight_hh..][..gate_rows * hidden];
        let (first, second) = d_weight_hh.split_at_mut(first_rows * hidden);
        let h = matrix(&kept.prev[..rows * hidden], hidden);
        add_product(d_rh.slice(s![.., ..first_rows]).t(), h, matrix_mut(first, hidden));
        if self.two_phase() {
            let mid = self.mid_saved(kept, &mut u);
            add_product(d_rh.slice(s![.., first_rows..]).t(), matrix(&mid, hidden), matrix_mut(second, hidden));
        }
        if let Some(at) = block.bias {
            let (d_bias_ih, d_bias_hh) = d_params[at..][..2 * gate_rows].split_at_mut(gate_rows);
            for (d_wx, d_rh) in d_wx.rows().into_iter().zip(d_rh.rows()) {
                d_bias_ih.iter_mut().zip(d_wx).for_each(|(sum, d)| *sum += d);
                d_bias_hh.iter_mut().zip(d_rh).for_each(|(sum, d)| *sum += d);
            }
        }
        if let Some(at) = block.unit {
            d_params[at..][..d_unit.len()].copy_from_slice(&d_unit);
        }
    }

    /// `[T, B, H]`: the cell's mid values again, from what forward kept.
    fn mid_saved(&self, kept: &DirectionTrace, u: &mut Unit) -> Vec<f64> {
        let mut mid = vec![0.0; self.rows * self.hidden];
        for t in 0..self.seq_len {
            for (b, j) in self.active_units(t) {
                let at = (t * self.batch + b) * self.hidden + j;
                gather(&mut u.saved, &kept.saved, at, self.rows * self.hidden);
                gather(&mut u.prev, &kept.prev, at, self.rows * self.hidden);
                mid[at] = self.cell.mid_saved(&u.saved, &u.prev);
            }
        }
        mid
    }

    /// Every (row, unit) that step `t` computes.
    fn active_units(&self, t: usize) -> impl Iterator<Item = (usize, usize)> {
        let active = (0..self.batch).filter(move |&b| self.active(t, b));
        active.flat_map(|b| (0..self.hidden).map(move |j| (b, j)))
    }
}

/// The parameters of one layer and direction.
struct Weights<'a> {
    /// `[G·H, I_l]`
    ih: ArrayView2<'a, f64>,
    /// `[G·H, H]`
    hh: ArrayView2<'a, f64>,
    /// `[G·H]`
    bias_ih: Option<&'a [f64]>,
    /// `[G·H]`
    bias_hh: Option<&'a [f64]>,
    /// `[rows, H]`
    unit: &'a [f64],
}

/// The numbers of one unit at one step, gathered from the arrays for the cell.
struct Unit {
    wx: Vec<f64>,
    rh: Vec<f64>,
    prev: Vec<f64>,
    next: Vec<f64>,
    saved: Vec<f64>,
    frozen: Vec<f64>,
    unit: Vec<f64>,
    d_next: Vec<f64>,
    d_wx: Vec<f64>,
    d_rh: Vec<f64>,
    d_prev: Vec<f64>,
    d_unit: Vec<f64>,
}

impl Unit {
    fn new(cell: &dyn Cell) -> Self {
        let gates = || vec![0.0; cell.gates().len()];
        let states = || vec![0.0; cell.states()];
        let saved = || vec![0.0; cell.saved()];
        let unit = || vec![0.0; unit_rows(cell)];
        Self {
            wx: gates(),
            rh: gates(),
            prev: states(),
            next: states(),
            saved: saved(),
            frozen: saved(),
            unit: unit(),
            d_next: states(),
            d_wx: gates(),
            d_rh: gates(),
            d_prev: states(),
            d_unit: unit(),
        }
    }
}

/// Takes every `stride`-th element from `start` on.
fn gather(to: &mut [f64], from: &[f64], start: usize, stride: usize) {
    for (k, to) in to.iter_mut().enumerate() {
        *to = from[start + k * stride];
    }
}

/// The reverse of [`gather`].
fn scatter(from: &[f64], to: &mut [f64], start: usize, stride: usize) {
    for (k, from) in from.iter().enumerate() {
        to[start + k * stride] = *from;
    }
}

/// As [`scatter`], adding.
fn scatter_add(from: &[f64], to: &mut [f64], start: usize, stride: usize) {
    for (k, from) in from.iter().enumerate() {
        to[start + k * stride] += from;
    }
}

/// `[rows, n]` with the bias in every row, or 0.
fn repeat(bias: Option<&[f64]>, rows: usize, n: usize) -> Vec<f64> {
    bias.map_or_else(|| vec![0.0; rows * n], |bias| bias.repeat(rows))
}

/// A flat array as a matrix of that many columns.
fn matrix(data: &[f64], columns: usize) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape((data.len() / columns, columns), data).expect("rows times columns is the length")
}

fn matrix_mut(data: &mut [f64], columns: usize) -> ArrayViewMut2<'_, f64> {
    ArrayViewMut2::from_shape((data.len() / columns, columns), data).expect("rows times columns is the length")
}

/// c += a·b
fn add_product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, mut c: ArrayViewMut2<'_, f64>) {
    general_mat_mul(1.0, &a, &b, 1.0, &mut c);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::registry;
    use crate::network::sequence::DropoutKey;

    /// Dropout, the order of layers and the concatenation of directions: two layers are two networks of one layer.
    #[test]
    fn layers_are_networks_on_top_of_each_other() {
        for cell in registry() {
            let shape = SeqShape { seq_len: 4, batch_size: 2 };
            let config = RnnConfig::new(3, 5).with_num_layers(2).with_bidirectional(true).with_dropout(0.4);
            let params: Vec<f64> =
                (0..ParamLayout::new(&cell, &config).unwrap().len()).map(|k| (k as f64 * 0.7).sin() * 0.5).collect();
            let input: Vec<f64> = (0..shape.rows() * 3).map(|k| (k as f64).cos()).collect();
            let key = DropoutKey { seed: 3, call: 9 };
            let seq = Sequence::new(shape, &input).with_dropout(key);
            let both = forward(&cell, &config, &params, &seq, Mode::Training).unwrap();
            let plain = forward(&cell, &config, &params, &seq, Mode::Inference).unwrap();
            assert_ne!(both.output, plain.output, "{}", cell.name());

            let lower = config.clone().with_num_layers(1);
            let (lower_params, upper_params) = params.split_at(ParamLayout::new(&cell, &lower).unwrap().len());
            let y = forward(&cell, &lower, lower_params, &seq, Mode::Training).unwrap().output.output;
            let dropped: Vec<f64> = y.iter().enumerate().map(|(k, y)| y * dropout::scale(key, 0, k, 0.4)).collect();
            let upper = RnnConfig::new(10, 5).with_bidirectional(true);
            let y = forward(&cell, &upper, upper_params, &Sequence::new(shape, &dropped), Mode::Training).unwrap();
            assert_eq!(both.output.output, y.output.output, "{}", cell.name());
        }
    }
}
