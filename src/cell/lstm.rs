//! Long short-term memory (Hochreiter and Schmidhuber 1997, with forget gate; PyTorch's `nn.LSTM`).

use std::borrow::Cow;

use crate::cell::activation::{Activation, wgsl_f32};
use crate::cell::nonlinearity::{Nonlinearity, check_bound};
use crate::cell::sealed::Token;
use crate::cell::{BackwardStep, Cell, CellSpec, ForwardStep};
use crate::error::Result;

/// i, f, o = σ(wx + rh), g = tanh(wx + rh); c' = f·c + i·g; h' = o·tanh(c'). States h, c. In weights and
/// biases the gates lie in the order i, f, g, o.
///
/// The options are ONNX's, but for `cell_clip`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lstm {
    /// Activation of i, f and o (ONNX `f`), with ONNX `clip`.
    pub gate: Nonlinearity,
    /// Activation of g (ONNX `g`), with ONNX `clip`.
    pub candidate: Nonlinearity,
    /// Activation of c' on its way to h' (ONNX `h`). Its input is never clipped: see `cell_clip`.
    pub output: Activation,
    /// `weight_peephole_l0` `[3, H]` in the order i, o, f (ONNX `P`): i and f also see c, o also sees c'.
    pub peepholes: bool,
    /// Coupled gates (ONNX `input_forget`): f = 1 − i; the rows of f stay in the layout with gradient 0.
    pub input_forget: bool,
    /// Bound on c' before it is stored and before it goes to h' (Sak 2014); gradient 0 where it bites.
    pub cell_clip: Option<f32>,
}

impl Default for Lstm {
    fn default() -> Self {
        Self {
            gate: Nonlinearity::new(Activation::Sigmoid),
            candidate: Nonlinearity::new(Activation::Tanh),
            output: Activation::Tanh,
            peepholes: false,
            input_forget: false,
            cell_clip: None,
        }
    }
}

impl Lstm {
    /// Other activations of i, f and o, of g, and of c' on its way to h'; the clip stays.
    pub fn with_activations(self, gate: Activation, candidate: Activation, output: Activation) -> Self {
        let gate = Nonlinearity { activation: gate, ..self.gate };
        let candidate = Nonlinearity { activation: candidate, ..self.candidate };
        Self { gate, candidate, output, ..self }
    }

    /// ONNX `clip`: bounds the pre-activations of i, f, g and o, not c'.
    pub fn with_clip(self, clip: f32) -> Self {
        Self { gate: self.gate.with_clip(Some(clip)), candidate: self.candidate.with_clip(Some(clip)), ..self }
    }

    /// Peephole weights on or off.
    pub fn with_peepholes(self, peepholes: bool) -> Self {
        Self { peepholes, ..self }
    }

    /// Coupled gates on or off.
    pub fn with_input_forget(self, input_forget: bool) -> Self {
        Self { input_forget, ..self }
    }

    /// Bounds c'.
    pub fn with_cell_clip(self, cell_clip: f32) -> Self {
        Self { cell_clip: Some(cell_clip), ..self }
    }
}

impl Cell for Lstm {
    fn name(&self) -> &str {
        "lstm"
    }

    fn spec(&self) -> CellSpec {
        let spec = CellSpec::new(&["i", "f", "g", "o"], 4)
            .with_state("c", "cell state")
            .with_projectable(true)
            .with_formula("c' = f·c + i·g, h' = o·tanh(c')")
            .with_gate("i", "input gate", "g is kept out of c", "g is added to c")
            .with_gate("f", "forget gate", "c is forgotten", "c is copied")
            .with_candidate("g")
            .with_gate("o", "output gate", "c is hidden from h", "c shows in h");
        // Rows in the order i, o, f.
        if self.peepholes { spec.with_unit_param("weight_peephole", 3) } else { spec }
    }

    fn validate(&self) -> Result<()> {
        self.gate.validate()?;
        self.candidate.validate()?;
        Nonlinearity::new(self.output).validate()?;
        check_bound("cell_clip", self.cell_clip)
    }

    fn trusted(&self, _: Token) -> bool {
        true
    }

    fn wgsl(&self) -> Cow<'_, str> {
        let flags = format!(
            "const PEEPHOLES = {};\nconst INPUT_FORGET = {};\nconst HAS_CELL_CLIP = {};\nconst CELL_CLIP = {};\n",
            self.peepholes,
            self.input_forget,
            self.cell_clip.is_some(),
            wgsl_f32(self.cell_clip.unwrap_or(0.0)),
        );
        let gates = self.gate.wgsl("gate") + &self.candidate.wgsl("candidate") + &Nonlinearity::new(self.output).wgsl("output");
        (flags + &gates + include_str!("../../shaders/cell/lstm.wgsl")).into()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        // Nothing where there are none: 0 times an infinite state would be NaN.
        let peep = |row: usize, value: f64| if self.peepholes { s.unit[row] * value } else { 0.0 };
        let a_i = s.wx[0] + s.rh[0] + peep(0, s.prev[1]);
        let a_f = s.wx[1] + s.rh[1] + peep(2, s.prev[1]);
        let a_g = s.wx[2] + s.rh[2];
        let i = self.gate.value(a_i);
        let f = if self.input_forget { 1.0 - i } else { self.gate.value(a_f) };
        let g = self.candidate.value(a_g);
        let mut c = f * s.prev[1] + i * g;
        if let Some(clip) = self.cell_clip {
            c = c.clamp(-f64::from(clip), clip.into());
        }
        let a_o = s.wx[3] + s.rh[3] + peep(1, c);
        let o = self.gate.value(a_o);
        s.next.copy_from_slice(&[o * self.output.value(c), c]);
        let kept = [self.gate.keep(a_i, i), self.gate.keep(a_f, f), self.candidate.keep(a_g, g), self.gate.keep(a_o, o)];
        s.saved.copy_from_slice(&kept);
    }

    /// Saved is one value a gate, in their order.
    fn gate_value(&self, gate: usize, saved: &[f64], _: &[f64]) -> Option<f64> {
        let value = match gate {
            1 if self.input_forget => 1.0 - self.gate.restore(saved[0]),
            0 | 1 | 3 => self.gate.restore(saved[gate]),
            2 => self.candidate.restore(saved[2]),
            _ => return None,
        };
        Some(value)
    }

    fn backward(&self, s: BackwardStep<'_>) {
        // Nothing where there are none: 0 times an infinite state would be NaN.
        let peep = |row: usize, value: f64| if self.peepholes { s.unit[row] * value } else { 0.0 };
        let output = Nonlinearity::new(self.output);
        let i = self.gate.restore(s.saved[0]);
        let f = if self.input_forget { 1.0 - i } else { self.gate.restore(s.saved[1]) };
        let g = self.candidate.restore(s.saved[2]);
        let o = self.gate.restore(s.saved[3]);
        let (c_prev, c) = (s.prev[1], s.next[1]);
        let yc = output.value(c);
        let d_o = s.d_next[0] * yc * self.gate.slope(s.saved[3]);
        let mut dc = s.d_next[1] + s.d_next[0] * o * output.derivative(c, yc) + peep(1, d_o);
        if self.cell_clip.is_some_and(|clip| c.abs() >= clip.into()) {
            dc = 0.0;
        }
        let (through_i, d_f) = if self.input_forget { (g - c_prev, 0.0) } else { (g, dc * c_prev * self.gate.slope(s.saved[1])) };
        let d_i = dc * through_i * self.gate.slope(s.saved[0]);
        let d_g = dc * i * self.candidate.slope(s.saved[2]);
        s.d_wx.copy_from_slice(&[d_i, d_f, d_g, d_o]);
        s.d_rh.copy_from_slice(&[d_i, d_f, d_g, d_o]);
        // A coupled forget gate contributes nothing, rather than 0 times what may be a NaN.
        let [through_f, d_peep_f] = if self.input_forget { [0.0; 2] } else { [peep(2, d_f), d_f * c_prev] };
        s.d_prev.copy_from_slice(&[0.0, dc * f + peep(0, d_i) + through_f]);
        if self.peepholes {
            s.d_unit.copy_from_slice(&[d_i * c_prev, d_o * c, d_peep_f]);
        }
    }
}
