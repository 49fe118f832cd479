//! Forward through all layers, directions and steps.

use std::mem;

use ndarray::{ArrayView2, s};

use super::arrays::{add_product, gather, matrix, matrix_mut, repeat, scatter};
use super::call::{Call, States, Unit};
use super::trace::{DirectionTrace, LayerTrace, Trace};
use crate::cell::ForwardStep;
use crate::error::Result;
use crate::network::sequence::{Mode, Output, state_len};

impl Call<'_> {
    pub(super) fn forward(&self, mode: Mode, frozen: Option<&Trace>) -> Result<Trace> {
        let config = self.config;
        let mut final_state = vec![0.0; state_len(&self.cell.spec(), config, self.seq.shape)];
        let mut layers = Vec::new();
        let mut x = self.read(self.seq.input, config.input_size, |t, b| self.active(t, b));
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
        let (states, saved) = (self.cell.spec().states.len(), self.cell.spec().saved);
        Ok(Trace { output, config: config.clone(), shape: self.seq.shape, states, saved, layers })
    }

    /// One direction of one layer: from `x` `[T, B, I_l]` to its columns of `y` `[T, B, D·H]`.
    pub(super) fn forward_direction(
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
            prev: zeros(cell.spec().states.len()),
            next: zeros(cell.spec().states.len()),
            projected: w.hr.map(|_| vec![0.0; rows * self.h_size]),
            saved: zeros(cell.spec().saved),
            margin: f64::INFINITY,
        };
        let mut u = Unit::new(cell);

        // The input part of all gates at all steps in one product: wx [T·B, G·H] = x·W_ihᵀ + b_ih.
        let mut wx = repeat(w.bias_ih, rows, gate_rows);
        add_product(matrix(x, w.ih.ncols()), w.ih.t(), matrix_mut(&mut wx, gate_rows));

        let repeated = self.repeated(layer, direction);
        let mut state = self.read_state(self.seq.initial_state, layer, direction);
        for t in self.steps(direction) {
            self.cut_state(direction, t, &mut state);

            // The recurrent part: rh [B, G·H] = h·W_hhᵀ + b_hh, h being state 0.
            let mut rh = repeat(w.bias_hh, batch, gate_rows);
            let h = matrix(state.h(self), self.h_size);
            add_product(h, w.hh.slice(s![..first_rows, ..]).t(), matrix_mut(&mut rh, gate_rows).slice_mut(s![.., ..first_rows]));
            if self.two_phase() {
                let mut mid = vec![0.0; batch * hidden];
                for (b, j) in self.active_units(t) {
                    gather(&mut u.wx, &wx, (t * batch + b) * gate_rows + j, hidden);
                    gather(&mut u.rh, &rh, b * gate_rows + j, hidden);
                    gather(&mut u.prev, &state.units, b * hidden + j, batch * hidden);
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
                gather(&mut u.prev, &state.units, b * hidden + j, batch * hidden);
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
                scatter(&u.next, &mut state.units, b * hidden + j, batch * hidden);
            }
            self.put_out((t, direction), w.hr, &repeated, &mut state, &mut kept, y);
        }
        self.write_state(&mut state, layer, direction, final_state);
        kept
    }

    /// The h of a step, once the cell has put out what it does: projected if it is, and in the output of the rows that have one.
    fn put_out(
        &self,
        (t, direction): (usize, usize),
        hr: Option<ArrayView2<'_, f64>>,
        repeated: &[bool],
        state: &mut States,
        kept: &mut DirectionTrace,
        y: &mut [f64],
    ) {
        let Self { batch, rows, hidden, h_size, .. } = *self;
        for b in (0..batch).filter(|&b| self.within(t, b)) {
            let (at, active) = (t * batch + b, self.active(t, b));
            if !active {
                for (k, state) in state.units.chunks_exact(batch * hidden).enumerate() {
                    kept.next[(k * rows + at) * hidden..][..hidden].copy_from_slice(&state[b * hidden..][..hidden]);
                }
            } else if let (Some(hr), Some(h), Some(kept)) = (hr, &mut state.projected, &mut kept.projected) {
                let h = &mut h[b * h_size..][..h_size];
                kept[at * h_size..][..h_size].copy_from_slice(h);
                h.fill(0.0);
                add_product(matrix(&state.units[b * hidden..][..hidden], hidden), hr.t(), matrix_mut(h, h_size));
            }
            if active || repeated[at] {
                let y = &mut y[at * self.config.output_size() + direction * h_size..][..h_size];
                y.copy_from_slice(&state.h(self)[b * h_size..][..h_size]);
            }
        }
    }
}
