//! What forward and backward share: one validated call, its arrays and its products.

use std::ops::Range;

use ndarray::ArrayView2;

use super::arrays::matrix;
use super::trace::Trace;
use crate::cell::Cell;
use crate::error::{Error, Result, check_len};
use crate::network::config::RnnConfig;
use crate::network::dropout;
use crate::network::params::{ParamBlock, ParamLayout};
use crate::network::sequence::{SeqShape, Sequence};

/// One validated call: its arguments and the sizes that all loops share.
pub(super) struct Call<'a> {
    pub cell: &'a dyn Cell,
    pub config: &'a RnnConfig,
    pub layout: ParamLayout,
    pub params: &'a [f64],
    pub seq: &'a Sequence<'a, f64>,
    /// T.
    pub seq_len: usize,
    /// B.
    pub batch: usize,
    /// T·B.
    pub rows: usize,
    /// H.
    pub hidden: usize,
    /// Values of h: P where it is projected.
    pub h_size: usize,
    /// G·H: rows of the weight matrices.
    pub gate_rows: usize,
    /// How many of those multiply h; the rest multiply the cell's mid value.
    pub first_rows: usize,
}

impl<'a> Call<'a> {
    pub(super) fn new(cell: &'a dyn Cell, config: &'a RnnConfig, params: &'a [f64], seq: &'a Sequence<'a, f64>) -> Result<Self> {
        let layout = ParamLayout::new(cell, config)?;
        check_len("params", layout.len(), params.len())?;
        seq.validate(cell, config)?;
        let spec = cell.spec();
        let (gates, first, states) = (spec.gates.len(), spec.first_phase_gates, spec.states.len());
        if first > gates || states == 0 {
            let what = format!("cell `{}`: {first} of {gates} gates in the first phase, {states} states", cell.name());
            return Err(Error::Config(what));
        }
        let SeqShape { seq_len, batch_size: batch } = seq.shape;
        let (rows, hidden) = (seq.shape.rows(), config.hidden_size);
        let (gate_rows, first_rows) = (gates * hidden, first * hidden);
        let h_size = config.h_size();
        Ok(Self { cell, config, layout, params, seq, seq_len, batch, rows, hidden, h_size, gate_rows, first_rows })
    }

    /// A trace of another call would be read out of bounds.
    pub(super) fn check_trace(&self, trace: &Trace) -> Result<()> {
        trace.check_training()?;
        let same = trace.config == *self.config && trace.shape == self.seq.shape;
        if !(same && trace.states == self.cell.spec().states.len() && trace.saved == self.cell.spec().saved) {
            return Err(Error::Config("the trace is of a call with another cell, config or shape".into()));
        }
        Ok(())
    }

    /// Whether step `t` lies within the length of row `b`.
    pub(super) fn within(&self, t: usize, b: usize) -> bool {
        self.seq.lengths.is_none_or(|lengths| t < lengths[b] as usize)
    }

    /// Whether row `b` computes step `t`: it lies within the row's length and isn't held.
    pub(super) fn active(&self, t: usize, b: usize) -> bool {
        self.within(t, b) && self.seq.hold.is_none_or(|hold| hold[t * self.batch + b] == 0)
    }

    /// `[T, B]`: where a layer that doesn't compute a step puts out what it did at the last that it computed. Layers above don't
    /// read that.
    pub(super) fn repeated(&self, layer: usize, direction: usize) -> Vec<bool> {
        let mut repeated = vec![false; self.rows];
        if self.seq.hold.is_none() || self.config.zero_output_for_mask || layer + 1 < self.config.num_layers {
            return repeated;
        }
        let steps = self.steps(direction);
        for b in 0..self.batch {
            let mut computed = false;
            for &t in steps.iter().filter(|&&t| self.within(t, b)) {
                let active = self.active(t, b);
                computed = active || (computed && !self.cut(direction, t, b));
                repeated[t * self.batch + b] = computed && !active;
            }
        }
        repeated
    }

    /// Whether a reset cuts the edge by which the state enters step `t` of row `b`.
    pub(super) fn cut(&self, direction: usize, t: usize, b: usize) -> bool {
        // The edge between t − 1 and t is named after t; the reverse direction enters t from t + 1.
        let edge = t + usize::from(self.config.runs_back(direction));
        edge < self.seq_len && self.within(edge, b) && self.seq.reset.is_some_and(|reset| reset[edge * self.batch + b] != 0)
    }

    /// Steps in the order in which a direction processes them.
    pub(super) fn steps(&self, direction: usize) -> Vec<usize> {
        if self.config.runs_back(direction) { (0..self.seq_len).rev().collect() } else { (0..self.seq_len).collect() }
    }

    /// Whether W_hh comes in two products per step.
    pub(super) fn two_phase(&self) -> bool {
        self.first_rows < self.gate_rows
    }

    /// `[T, B, n]` from data in the caller's order; 0 where `read` says no, so that nothing there is ever read.
    pub(super) fn read(&self, data: &[f64], n: usize, read: impl Fn(usize, usize) -> bool) -> Vec<f64> {
        let mut packed = vec![0.0; self.rows * n];
        for t in 0..self.seq_len {
            for b in (0..self.batch).filter(|&b| read(t, b)) {
                let (to, from) = ((t * self.batch + b) * n, self.seq.shape.row(self.config.batch_first, t, b) * n);
                packed[to..to + n].copy_from_slice(&data[from..from + n]);
            }
        }
        packed
    }

    /// `[T, B, n]` in the caller's order.
    pub(super) fn write(&self, packed: &[f64], n: usize) -> Vec<f64> {
        let mut data = vec![0.0; packed.len()];
        for t in 0..self.seq_len {
            for b in 0..self.batch {
                let (from, to) = ((t * self.batch + b) * n, self.seq.shape.row(self.config.batch_first, t, b) * n);
                data[to..to + n].copy_from_slice(&packed[from..from + n]);
            }
        }
        data
    }

    /// Where state `k` of a layer and direction lies in a `[S, L·D, B, H]` block, whose h may be projected.
    fn state_range(&self, k: usize, layer: usize, direction: usize) -> Range<usize> {
        let d = self.config.num_directions();
        let block = self.config.num_layers * d * self.batch;
        let (start, size) = if k == 0 { (0, self.h_size) } else { (block * (self.h_size + (k - 1) * self.hidden), self.hidden) };
        let start = start + (layer * d + direction) * self.batch * size;
        start..start + self.batch * size
    }

    /// The states of a layer and direction, or their gradients; zeros without a block.
    pub(super) fn read_state(&self, block: Option<&[f64]>, layer: usize, direction: usize) -> States {
        let mut states = States::zeros(self);
        if let Some(block) = block {
            for k in 0..self.cell.spec().states.len() {
                states.part_mut(k, self).copy_from_slice(&block[self.state_range(k, layer, direction)]);
            }
        }
        states
    }

    pub(super) fn write_state(&self, states: &mut States, layer: usize, direction: usize, block: &mut [f64]) {
        for k in 0..self.cell.spec().states.len() {
            block[self.state_range(k, layer, direction)].copy_from_slice(states.part_mut(k, self));
        }
    }

    /// Zeroes the rows of states whose edge into step `t` is cut.
    pub(super) fn cut_state(&self, direction: usize, t: usize, states: &mut States) {
        for b in (0..self.batch).filter(|&b| self.cut(direction, t, b)) {
            for state in states.units.chunks_exact_mut(self.batch * self.hidden) {
                state[b * self.hidden..][..self.hidden].fill(0.0);
            }
            if let Some(h) = &mut states.projected {
                h[b * self.h_size..][..self.h_size].fill(0.0);
            }
        }
    }

    /// Dropout between a layer and the next, of outputs and in backward of their gradients.
    pub(super) fn drop_out(&self, layer: usize, y: &mut [f64]) {
        if self.config.dropout > 0.0 {
            for (index, y) in y.iter_mut().enumerate() {
                *y *= dropout::scale(self.seq.dropout, layer, index, self.config.dropout);
            }
        }
    }

    pub(super) fn weights(&self, layer: usize, direction: usize) -> Weights<'a> {
        let ParamBlock { weight_ih, weight_hh, bias, unit, proj, .. } = self.layout.block(layer, direction);
        let (params, hidden, gate_rows) = (self.params, self.hidden, self.gate_rows);
        let input = self.config.layer_input_size(layer);
        Weights {
            ih: matrix(&params[weight_ih..][..gate_rows * input], input),
            hh: matrix(&params[weight_hh..][..gate_rows * self.h_size], self.h_size),
            hr: proj.map(|at| matrix(&params[at..][..self.h_size * hidden], hidden)),
            bias_ih: bias.map(|at| &params[at..][..gate_rows]),
            bias_hh: bias.map(|at| &params[at + gate_rows..][..gate_rows]),
            unit: unit.map_or(&[], |at| &params[at..][..self.cell.spec().unit_rows() * hidden]),
        }
    }
}

/// The states of a layer and direction.
#[derive(Clone)]
pub(super) struct States {
    /// `[S, B, H]`, as the cell knows them: state 0 is what it puts out.
    pub units: Vec<f64>,
    /// `[B, P]`: h, where it is projected.
    pub projected: Option<Vec<f64>>,
}

impl States {
    fn zeros(call: &Call<'_>) -> Self {
        let projected = (call.config.proj_size > 0).then(|| vec![0.0; call.batch * call.h_size]);
        Self { units: vec![0.0; call.cell.spec().states.len() * call.batch * call.hidden], projected }
    }

    /// State `k` of the network: state 0 is h.
    fn part_mut(&mut self, k: usize, call: &Call<'_>) -> &mut [f64] {
        let len = call.batch * call.hidden;
        match &mut self.projected {
            Some(h) if k == 0 => h,
            _ => &mut self.units[k * len..][..len],
        }
    }

    /// h `[B, H]` or `[B, P]`.
    pub fn h(&self, call: &Call<'_>) -> &[f64] {
        self.projected.as_deref().unwrap_or(&self.units[..call.batch * call.hidden])
    }

    pub fn h_mut(&mut self, call: &Call<'_>) -> &mut [f64] {
        self.part_mut(0, call)
    }
}

/// The parameters of one layer and direction.
pub(super) struct Weights<'a> {
    /// `[G·H, I_l]`
    pub ih: ArrayView2<'a, f64>,
    /// `[G·H, H]`, or `[G·H, P]`.
    pub hh: ArrayView2<'a, f64>,
    /// `[P, H]`, where h is projected.
    pub hr: Option<ArrayView2<'a, f64>>,
    /// `[G·H]`
    pub bias_ih: Option<&'a [f64]>,
    /// `[G·H]`
    pub bias_hh: Option<&'a [f64]>,
    /// `[rows, H]`
    pub unit: &'a [f64],
}

/// The numbers of one unit at one step, gathered from the arrays for the cell.
pub(super) struct Unit {
    pub wx: Vec<f64>,
    pub rh: Vec<f64>,
    pub prev: Vec<f64>,
    pub next: Vec<f64>,
    pub saved: Vec<f64>,
    pub frozen: Vec<f64>,
    pub unit: Vec<f64>,
    pub d_next: Vec<f64>,
    pub d_wx: Vec<f64>,
    pub d_rh: Vec<f64>,
    pub d_prev: Vec<f64>,
    pub d_unit: Vec<f64>,
}

impl Unit {
    pub(super) fn new(cell: &dyn Cell) -> Self {
        let spec = cell.spec();
        let gates = || vec![0.0; spec.gates.len()];
        let states = || vec![0.0; spec.states.len()];
        let saved = || vec![0.0; spec.saved];
        let unit = || vec![0.0; spec.unit_rows()];
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
