//! Gated recurrent unit, with the reset gate after the recurrent product (PyTorch) or before it (Cho et al. 2014).

use std::borrow::Cow;

use crate::cell::activation::Activation;
use crate::cell::nonlinearity::Nonlinearity;
use crate::cell::sealed::Token;
use crate::cell::{BackwardStep, Cell, CellSpec, ForwardStep};
use crate::error::Result;

/// Where the reset gate r takes part in the candidate n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GruReset {
    /// n = tanh(wx_n + r·rh_n): one product serves all gates. PyTorch's `nn.GRU`, cuDNN, Keras' default (`reset_after`), ONNX
    /// `GRU` with `linear_before_reset=1`. The command calls it `gru`.
    After,
    /// n = tanh(wx_n + R_n·(r⊙h) + b_hn): a step needs two products. Cho et al. 2014 (arXiv:1406.1078), Keras with
    /// `reset_after=False`, ONNX `GRU` by default. b_hn lies outside the reset. The command calls it `gru_reset_before`.
    Before,
}

/// r, z = σ(wx + rh); n as [`GruReset`] says; h' = (1−z)·n + z·h. In weights and biases the gates lie in the order r, z, n.
#[derive(Debug, Clone, PartialEq)]
pub struct Gru {
    /// Activation of r and z (ONNX `f`), with ONNX `clip`.
    pub gate: Nonlinearity,
    /// Activation of n (ONNX `g`), with ONNX `clip`.
    pub candidate: Nonlinearity,
    /// After the recurrent product by default.
    pub reset: GruReset,
}

impl Default for Gru {
    fn default() -> Self {
        let (gate, candidate) = (Nonlinearity::new(Activation::Sigmoid), Nonlinearity::new(Activation::Tanh));
        Self { gate, candidate, reset: GruReset::After }
    }
}

impl Gru {
    /// The GRU whose reset gate comes before the recurrent product: [`GruReset::Before`].
    pub fn reset_before() -> Self {
        Self { reset: GruReset::Before, ..Self::default() }
    }

    /// Other activations of r and z, and of n; the clip stays.
    pub fn with_activations(self, gate: Activation, candidate: Activation) -> Self {
        let gate = Nonlinearity { activation: gate, ..self.gate };
        let candidate = Nonlinearity { activation: candidate, ..self.candidate };
        Self { gate, candidate, ..self }
    }

    /// ONNX `clip`: bounds the pre-activations of r, z and n.
    pub fn with_clip(self, clip: f32) -> Self {
        Self { gate: self.gate.with_clip(Some(clip)), candidate: self.candidate.with_clip(Some(clip)), ..self }
    }

    fn saved(&self) -> usize {
        match self.reset {
            GruReset::After => 4,
            GruReset::Before => 3,
        }
    }
}

impl Cell for Gru {
    fn name(&self) -> &str {
        match self.reset {
            GruReset::After => "gru",
            GruReset::Before => "gru_reset_before",
        }
    }

    /// Saved is one value a gate, in their order; with the reset after the product also rh_n.
    fn spec(&self) -> CellSpec {
        let spec = CellSpec::new(&["r", "z", "n"], self.saved())
            .with_gate("r", "reset gate", "n ignores the old h", "n sees the old h")
            .with_gate("z", "update gate", "h is renewed by n", "h is copied")
            .with_candidate("n");
        match self.reset {
            // r scales the recurrent part of n alone.
            GruReset::After => spec.with_split_gradients(true).with_formula("n = tanh(wx + r·rh), h' = (1−z)·n + z·h"),
            // R_n multiplies r·h instead of h.
            GruReset::Before => spec.with_first_phase_gates(2).with_formula("n = tanh(wx + R·(r·h)), h' = (1−z)·n + z·h"),
        }
    }

    fn validate(&self) -> Result<()> {
        self.gate.validate()?;
        self.candidate.validate()
    }

    fn trusted(&self, _: Token) -> bool {
        true
    }

    fn wgsl(&self) -> Cow<'_, str> {
        let gates = self.gate.wgsl("gate") + &self.candidate.wgsl("candidate");
        let cell = match self.reset {
            GruReset::After => include_str!("../../shaders/cell/gru.wgsl"),
            GruReset::Before => include_str!("../../shaders/cell/gru_reset_before.wgsl"),
        };
        (gates + cell).into()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        let a_r = s.wx[0] + s.rh[0];
        let a_z = s.wx[1] + s.rh[1];
        let r = self.gate.value(a_r);
        let z = self.gate.value(a_z);
        let a_n = match self.reset {
            GruReset::After => s.wx[2] + r * s.rh[2],
            GruReset::Before => s.wx[2] + s.rh[2],
        };
        let n = self.candidate.value(a_n);
        s.next[0] = (1.0 - z) * n + z * s.prev[0];
        let kept = [self.gate.keep(a_r, r), self.gate.keep(a_z, z), self.candidate.keep(a_n, n), s.rh[2]];
        s.saved.copy_from_slice(&kept[..self.saved()]);
    }

    fn mid(&self, wx: &[f64], rh: &[f64], prev: &[f64], _unit: &[f64]) -> f64 {
        match self.reset {
            GruReset::After => prev[0],
            GruReset::Before => self.gate.value(wx[0] + rh[0]) * prev[0],
        }
    }

    fn mid_saved(&self, saved: &[f64], prev: &[f64]) -> f64 {
        match self.reset {
            GruReset::After => prev[0],
            GruReset::Before => self.gate.restore(saved[0]) * prev[0],
        }
    }

    fn gate_value(&self, gate: usize, saved: &[f64], _: &[f64]) -> Option<f64> {
        match gate {
            0 | 1 => Some(self.gate.restore(saved[gate])),
            2 => Some(self.candidate.restore(saved[2])),
            _ => None,
        }
    }

    fn backward(&self, s: BackwardStep<'_>) {
        let r = self.gate.restore(s.saved[0]);
        let z = self.gate.restore(s.saved[1]);
        let n = self.candidate.restore(s.saved[2]);
        let d_n = s.d_next[0] * (1.0 - z) * self.candidate.slope(s.saved[2]);
        let d_z = s.d_next[0] * (s.prev[0] - n) * self.gate.slope(s.saved[1]);
        // What reaches r, what h_n's product gets, and what goes past the products to the old h.
        let (d_of_r, d_rh_n, past) = match self.reset {
            GruReset::After => (d_n * s.saved[3], d_n * r, 0.0),
            GruReset::Before => (s.d_mid * s.prev[0], d_n, s.d_mid * r),
        };
        let d_r = d_of_r * self.gate.slope(s.saved[0]);
        s.d_wx.copy_from_slice(&[d_r, d_z, d_n]);
        s.d_rh.copy_from_slice(&[d_r, d_z, d_rh_n]);
        s.d_prev[0] = s.d_next[0] * z + past;
    }
}
