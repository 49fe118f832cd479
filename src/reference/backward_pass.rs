//! Backpropagation through time.

use ndarray::{ArrayView2, s};

use super::arrays::{add_product, gather, matrix, matrix_mut, scatter, scatter_add};
use super::call::{Call, States, Unit};
use super::trace::{DirectionTrace, LayerTrace, Trace};
use crate::cell::BackwardStep;
use crate::network::sequence::{Gradients, OutputGradients, state_len};

/// What the steps of one direction leave for its products.
struct StepGradients {
    /// `[T, B, G, H]`.
    d_wx: Vec<f64>,
    /// `[T, B, G, H]`.
    d_rh: Vec<f64>,
    /// Gradients of the parameters of single units, `[U, H]`.
    d_unit: Vec<f64>,
    /// Of a projection, `[P, H]`.
    d_hr: Vec<f64>,
}

impl Call<'_> {
    pub(super) fn backward(&self, trace: &Trace, d: &OutputGradients<'_, f64>) -> Gradients<f64> {
        let config = self.config;
        let mut gradients = Gradients {
            d_input: Vec::new(),
            d_params: vec![0.0; self.params.len()],
            d_initial_state: vec![0.0; state_len(&self.cell.spec(), config, self.seq.shape)],
        };
        let mut d_y = self.read(d.d_output, config.output_size(), |t, b| self.within(t, b));
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
        // A product's 0 where nothing was computed is NaN where a weight is not finite.
        for (t, b) in (0..self.seq_len).flat_map(|t| (0..self.batch).map(move |b| (t, b))).filter(|&(t, b)| !self.active(t, b)) {
            d_y[(t * self.batch + b) * config.input_size..][..config.input_size].fill(0.0);
        }
        gradients.d_input = self.write(&d_y, config.input_size);
        gradients
    }

    /// One direction of one layer: from its columns of `d_y` `[T, B, D·H]`, adds to `d_x` `[T, B, I_l]` and writes the
    /// gradients of its parameters and initial state.
    #[expect(clippy::too_many_arguments, reason = "layer and direction, what was kept, gradients in, gradients out")]
    pub(super) fn backward_direction(
        &self,
        layer: usize,
        direction: usize,
        kept: &LayerTrace,
        d_y: &[f64],
        d_final_state: Option<&[f64]>,
        d_x: &mut [f64],
        gradients: &mut Gradients<f64>,
    ) {
        let mut d_state = self.read_state(d_final_state, layer, direction);
        let steps = self.backward_steps(layer, direction, &kept.directions[direction], d_y, &mut d_state);
        self.write_state(&mut d_state, layer, direction, &mut gradients.d_initial_state);
        self.add_products(layer, direction, kept, &steps, d_x, &mut gradients.d_params);
    }

    /// All steps, the last first: from the gradient of the final state to that of the initial one.
    fn backward_steps(
        &self,
        layer: usize,
        direction: usize,
        kept: &DirectionTrace,
        d_y: &[f64],
        d_state: &mut States,
    ) -> StepGradients {
        let Self { cell, batch, rows, hidden, gate_rows, first_rows, .. } = *self;
        let w = self.weights(layer, direction);
        let mut u = Unit::new(cell);
        let mut d_wx = vec![0.0; rows * gate_rows];
        let mut d_rh = vec![0.0; rows * gate_rows];
        let mut d_unit = vec![0.0; w.unit.len()];
        let mut d_hr = vec![0.0; w.hr.map_or(0, |hr| hr.len())];
        let repeated = self.repeated(layer, direction);
        for &t in self.steps(direction).iter().rev() {
            // Gradient of the states before the step; a row that doesn't compute the step hands the gradient on.
            let mut d_prev = d_state.clone();
            self.take_in((t, direction), d_y, &repeated, kept, d_state, w.hr.map(|hr| (hr, &mut *d_hr)));
            let mut d_mid = vec![0.0; batch * hidden];
            // The first of two phases takes d_mid as 0: it is there for d_rh of the second phase's gates.
            for last in if self.two_phase() { [false, true].iter() } else { [true].iter() } {
                for (b, j) in self.active_units(t) {
                    let at = (t * batch + b) * hidden + j;
                    gather(&mut u.saved, &kept.saved, at, rows * hidden);
                    gather(&mut u.prev, &kept.prev, at, rows * hidden);
                    gather(&mut u.next, &kept.next, at, rows * hidden);
                    gather(&mut u.unit, w.unit, j, hidden);
                    gather(&mut u.d_next, &d_state.units, b * hidden + j, batch * hidden);
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
                    scatter(&u.d_prev, &mut d_prev.units, b * hidden + j, batch * hidden);
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
                    if let Some(d_h) = &mut d_prev.projected {
                        d_h.fill(0.0);
                    }
                    add_product(d_rh, hh, matrix_mut(d_prev.h_mut(self), self.h_size));
                }
            }
            for b in (0..batch).filter(|&b| !self.active(t, b)) {
                let d_h = &d_state.h(self)[b * self.h_size..][..self.h_size];
                d_prev.h_mut(self)[b * self.h_size..][..self.h_size].copy_from_slice(d_h);
            }
            self.cut_state(direction, t, &mut d_prev);
            *d_state = d_prev;
        }
        StepGradients { d_wx, d_rh, d_unit, d_hr }
    }

    /// Adds the gradient of a step's output to that of h; of that a projection makes the gradient of what the cell put out, and its own.
    fn take_in(
        &self,
        (t, direction): (usize, usize),
        d_y: &[f64],
        repeated: &[bool],
        kept: &DirectionTrace,
        d_state: &mut States,
        mut hr: Option<(ArrayView2<'_, f64>, &mut [f64])>,
    ) {
        let Self { batch, hidden, h_size, .. } = *self;
        for b in (0..batch).filter(|&b| self.active(t, b) || repeated[t * batch + b]) {
            let d_y = &d_y[(t * batch + b) * self.config.output_size() + direction * h_size..][..h_size];
            let d_h = &mut d_state.h_mut(self)[b * h_size..][..h_size];
            d_h.iter_mut().zip(d_y).for_each(|(sum, d)| *sum += d);
            if let (Some((hr, d_hr)), Some(d_h), true) = (&mut hr, &d_state.projected, self.active(t, b)) {
                let d_h = matrix(&d_h[b * h_size..][..h_size], h_size);
                let d_out = &mut d_state.units[b * hidden..][..hidden];
                d_out.fill(0.0);
                add_product(d_h, *hr, matrix_mut(d_out, hidden));
                let out = matrix(&kept.next[(t * batch + b) * hidden..][..hidden], hidden);
                add_product(d_h.t(), out, matrix_mut(d_hr, hidden));
            }
        }
    }

    /// All steps at once: d_x += d_wx·W_ih and, of the weights, d_W_ih = d_wxᵀ·x and d_W_hh = d_rhᵀ·(h or mid).
    fn add_products(
        &self,
        layer: usize,
        direction: usize,
        kept: &LayerTrace,
        steps: &StepGradients,
        d_x: &mut [f64],
        d_params: &mut [f64],
    ) {
        let Self { rows, hidden, gate_rows, first_rows, .. } = *self;
        let w = self.weights(layer, direction);
        let StepGradients { d_wx, d_rh, d_unit, d_hr } = steps;
        let (d_wx, d_rh) = (matrix(d_wx, gate_rows), matrix(d_rh, gate_rows));
        let input = w.ih.ncols();
        add_product(d_wx, w.ih, matrix_mut(d_x, input));
        let block = self.layout.block(layer, direction);
        let d_weight_ih = &mut d_params[block.weight_ih..][..gate_rows * input];
        add_product(d_wx.t(), matrix(&kept.input, input), matrix_mut(d_weight_ih, input));
        let d_weight_hh = &mut d_params[block.weight_hh..][..gate_rows * self.h_size];
        let (first, second) = d_weight_hh.split_at_mut(first_rows * self.h_size);
        let kept = &kept.directions[direction];
        let h = matrix(kept.projected.as_deref().unwrap_or(&kept.prev[..rows * hidden]), self.h_size);
        add_product(d_rh.slice(s![.., ..first_rows]).t(), h, matrix_mut(first, self.h_size));
        if self.two_phase() {
            let mid = self.mid_saved(kept, &mut Unit::new(self.cell));
            add_product(d_rh.slice(s![.., first_rows..]).t(), matrix(&mid, hidden), matrix_mut(second, hidden));
        }
        if let Some(at) = block.bias {
            let (d_bias_ih, d_bias_hh) = d_params[at..][..2 * gate_rows].split_at_mut(gate_rows);
            for (d_wx, d_rh) in d_wx.rows().into_iter().zip(d_rh.rows()) {
                d_bias_ih.iter_mut().zip(d_wx).for_each(|(sum, d)| *sum += d);
                d_bias_hh.iter_mut().zip(d_rh).for_each(|(sum, d)| *sum += d);
            }
        }
        if let Some(at) = block.proj {
            d_params[at..][..d_hr.len()].copy_from_slice(d_hr);
        }
        if let Some(at) = block.unit {
            d_params[at..][..d_unit.len()].copy_from_slice(d_unit);
        }
    }

    /// `[T, B, H]`: the cell's mid values again, from what forward kept.
    pub(super) fn mid_saved(&self, kept: &DirectionTrace, u: &mut Unit) -> Vec<f64> {
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
    pub(super) fn active_units(&self, t: usize) -> impl Iterator<Item = (usize, usize)> {
        let active = (0..self.batch).filter(move |&b| self.active(t, b));
        active.flat_map(|b| (0..self.hidden).map(move |j| (b, j)))
    }
}
