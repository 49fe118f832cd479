//! A cell's backward against central differences of its own forward, in float64.
#![expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN must fail")]

use crate::cell::Cell;
use crate::error::{Error, Result};
use crate::network::config::RnnConfig;
use crate::network::params::ParamLayout;
use crate::network::sequence::{Gradients, Mode, OutputGradients, Sequence, state_len};
use crate::reference::{self, Trace};

const STEP: f64 = 1e-6;
/// Relative to max(1, |gradient|). Rounding of a loss of about 10 alone makes 1e-9.
const TOLERANCE: f64 = 1e-6;

/// How many gradients were checked against differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FiniteDifferences {
    /// How many agreed.
    pub compared: usize,
    /// Where the difference itself changes with the step: a kink, of an activation or a clip.
    pub at_kinks: usize,
}

/// Data that differences are taken of; owned, to be changed in place.
struct Problem<'a> {
    cell: &'a dyn Cell,
    config: &'a RnnConfig,
    seq: &'a Sequence<'a, f64>,
    d: &'a OutputGradients<'a, f64>,
    params: Vec<f64>,
    input: Vec<f64>,
    initial_state: Vec<f64>,
    frozen: Trace,
}

type Field<'a> = for<'b> fn(&'b mut Problem<'a>) -> &'b mut Vec<f64>;

/// Checks the reference's gradients of Σ d_output·output + Σ d_final_state·final_state, in every input, parameter and initial
/// state, against central differences of the surrogate loss. A difference that does not agree is [`Error::Mismatch`].
pub fn finite_differences(
    cell: &dyn Cell,
    config: &RnnConfig,
    params: &[f64],
    seq: &Sequence<'_, f64>,
    d: &OutputGradients<'_, f64>,
) -> Result<FiniteDifferences> {
    let frozen = reference::forward(cell, config, params, seq, Mode::Training)?;
    let Gradients { d_input, d_params, d_initial_state } = reference::backward(cell, config, params, seq, &frozen, d)?;
    let zeros = || vec![0.0; state_len(&cell.spec(), config, seq.shape)];
    let mut problem = Problem {
        cell,
        config,
        seq,
        d,
        params: params.to_vec(),
        input: seq.input.to_vec(),
        initial_state: seq.initial_state.map_or_else(zeros, <[f64]>::to_vec),
        frozen,
    };
    let layout = ParamLayout::new(cell, config)?;
    let param = |index: usize| {
        let spec = layout.iter().find(|spec| spec.range.contains(&index));
        spec.map_or_else(String::new, |spec| format!("d_{}[{}]", spec.name, index - spec.range.start))
    };
    let mut found = FiniteDifferences::default();
    problem.compare(|index| format!("d_input[{index}]"), |p| &mut p.input, &d_input, &mut found)?;
    problem.compare(param, |p| &mut p.params, &d_params, &mut found)?;
    problem.compare(|index| format!("d_initial_state[{index}]"), |p| &mut p.initial_state, &d_initial_state, &mut found)?;
    Ok(found)
}

impl<'a> Problem<'a> {
    fn compare(
        &mut self,
        name: impl Fn(usize) -> String,
        field: Field<'a>,
        gradient: &[f64],
        found: &mut FiniteDifferences,
    ) -> Result<()> {
        for (index, &g) in gradient.iter().enumerate() {
            let padding = field(self)[index].is_nan();
            let expected = if padding { 0.0 } else { self.central(field, index, STEP)? };
            let allowed = TOLERANCE * g.abs().max(1.0);
            if (g - expected).abs() <= allowed {
                found.compared += 1;
                continue;
            }
            // Where the difference does not depend on the step, the gradient is wrong.
            if padding || !((self.central(field, index, STEP / 2.0)? - expected).abs() > allowed) {
                let error = (g - expected).abs();
                return Err(Error::Mismatch { name: name(index), measure: "distance to the finite difference", error, allowed });
            }
            found.at_kinks += 1;
        }
        Ok(())
    }

    fn central(&mut self, field: Field<'a>, index: usize, step: f64) -> Result<f64> {
        let x = field(self)[index];
        field(self)[index] = x + step;
        let above = self.loss();
        field(self)[index] = x - step;
        let below = self.loss();
        field(self)[index] = x;
        Ok((above? - below?) / (2.0 * step))
    }

    fn loss(&self) -> Result<f64> {
        let seq = Sequence { input: &self.input, initial_state: Some(&self.initial_state), ..*self.seq };
        let trace = reference::forward_surrogate(self.cell, self.config, &self.params, &seq, Mode::Training, &self.frozen)?;
        let weighted = |y: &[f64], d: &[f64]| -> f64 {
            // d_output may be NaN in the padding, where the output is 0 and does not count.
            y.iter().zip(d).filter(|(_, d)| !d.is_nan()).map(|(y, d)| y * d).sum()
        };
        let states = self.d.d_final_state.map_or(0.0, |d| weighted(&trace.output.final_state, d));
        Ok(weighted(&trace.output.output, self.d.d_output) + states)
    }
}
