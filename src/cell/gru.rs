//! Gated recurrent unit, with the reset gate after the recurrent product (PyTorch) or before it (Cho et al. 2014).

use std::borrow::Cow;

use crate::cell::activation::{Activation, Gate};
use crate::cell::sealed::Token;
use crate::cell::{BackwardStep, Cell, ForwardStep};
use crate::error::Result;

/// r, z = σ(wx + rh), n = tanh(wx_n + r·rh_n); h' = (1−z)·n + z·h.
///
/// Reset after the product, so that one product serves all gates: PyTorch's `nn.GRU`, cuDNN, Keras' default
/// (`reset_after`), ONNX `GRU` with `linear_before_reset=1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gru {
    /// Activation of r and z (ONNX `f`), with ONNX `clip`.
    pub gate: Gate,
    /// Activation of n (ONNX `g`), with ONNX `clip`.
    pub candidate: Gate,
}

impl Default for Gru {
    fn default() -> Self {
        Self { gate: Gate::new(Activation::Sigmoid), candidate: Gate::new(Activation::Tanh) }
    }
}

impl Gru {
    /// Other activations of r and z, and of n; the clip stays.
    pub fn with_activations(self, gate: Activation, candidate: Activation) -> Self {
        let gate = Gate { activation: gate, ..self.gate };
        let candidate = Gate { activation: candidate, ..self.candidate };
        Self { gate, candidate }
    }

    /// ONNX `clip`: bounds the pre-activations of r, z and n.
    pub fn with_clip(self, clip: f32) -> Self {
        Self { gate: self.gate.with_clip(Some(clip)), candidate: self.candidate.with_clip(Some(clip)) }
    }
}

impl Cell for Gru {
    fn name(&self) -> &str {
        "gru"
    }

    fn gates(&self) -> &[&'static str] {
        &["r", "z", "n"]
    }

    fn saved(&self) -> usize {
        4
    }

    /// r scales the recurrent part of n alone.
    fn split_gradients(&self) -> bool {
        true
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
        (gates + include_str!("../../shaders/cell/gru.wgsl")).into()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        let a_r = s.wx[0] + s.rh[0];
        let a_z = s.wx[1] + s.rh[1];
        let r = self.gate.value(a_r);
        let z = self.gate.value(a_z);
        let a_n = s.wx[2] + r * s.rh[2];
        let n = self.candidate.value(a_n);
        s.next[0] = (1.0 - z) * n + z * s.prev[0];
        s.saved.copy_from_slice(&[self.gate.keep(a_r, r), self.gate.keep(a_z, z), self.candidate.keep(a_n, n), s.rh[2]]);
    }

    /// Saved is one value a gate, in their order, then rh_n.
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
        let rh_n = s.saved[3];
        let d_n = s.d_next[0] * (1.0 - z) * self.candidate.slope(s.saved[2]);
        let d_z = s.d_next[0] * (s.prev[0] - n) * self.gate.slope(s.saved[1]);
        let d_r = d_n * rh_n * self.gate.slope(s.saved[0]);
        s.d_wx.copy_from_slice(&[d_r, d_z, d_n]);
        s.d_rh.copy_from_slice(&[d_r, d_z, d_n * r]);
        s.d_prev[0] = s.d_next[0] * z;
    }
}

/// r, z = σ(wx + rh), n = tanh(wx_n + R_n·(r⊙h) + b_hn); h' = (1−z)·n + z·h.
///
/// Reset before the product, so a step needs two: Cho et al. 2014 (arXiv:1406.1078), Keras with `reset_after=False`,
/// ONNX `GRU` by default. b_hn lies outside the reset.
#[derive(Debug, Clone, PartialEq)]
pub struct GruResetBefore {
    /// Activation of r and z (ONNX `f`), with ONNX `clip`.
    pub gate: Gate,
    /// Activation of n (ONNX `g`), with ONNX `clip`.
    pub candidate: Gate,
}

impl Default for GruResetBefore {
    fn default() -> Self {
        Self { gate: Gate::new(Activation::Sigmoid), candidate: Gate::new(Activation::Tanh) }
    }
}

impl GruResetBefore {
    /// Other activations of r and z, and of n; the clip stays.
    pub fn with_activations(self, gate: Activation, candidate: Activation) -> Self {
        let gate = Gate { activation: gate, ..self.gate };
        let candidate = Gate { activation: candidate, ..self.candidate };
        Self { gate, candidate }
    }

    /// ONNX `clip`: bounds the pre-activations of r, z and n.
    pub fn with_clip(self, clip: f32) -> Self {
        Self { gate: self.gate.with_clip(Some(clip)), candidate: self.candidate.with_clip(Some(clip)) }
    }
}

impl Cell for GruResetBefore {
    fn name(&self) -> &str {
        "gru_reset_before"
    }

    fn gates(&self) -> &[&'static str] {
        &["r", "z", "n"]
    }

    fn saved(&self) -> usize {
        3
    }

    /// R_n multiplies r·h instead of h.
    fn first_phase_gates(&self) -> usize {
        2
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
        (gates + include_str!("../../shaders/cell/gru_reset_before.wgsl")).into()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        let a_r = s.wx[0] + s.rh[0];
        let a_z = s.wx[1] + s.rh[1];
        let a_n = s.wx[2] + s.rh[2];
        let r = self.gate.value(a_r);
        let z = self.gate.value(a_z);
        let n = self.candidate.value(a_n);
        s.next[0] = (1.0 - z) * n + z * s.prev[0];
        s.saved.copy_from_slice(&[self.gate.keep(a_r, r), self.gate.keep(a_z, z), self.candidate.keep(a_n, n)]);
    }

    fn mid(&self, wx: &[f64], rh: &[f64], prev: &[f64], _unit: &[f64]) -> f64 {
        let r = self.gate.value(wx[0] + rh[0]);
        r * prev[0]
    }

    fn mid_saved(&self, saved: &[f64], prev: &[f64]) -> f64 {
        let r = self.gate.restore(saved[0]);
        r * prev[0]
    }

    /// Saved is one value a gate, in their order.
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
        let d_r = s.d_mid * s.prev[0] * self.gate.slope(s.saved[0]);
        s.d_wx.copy_from_slice(&[d_r, d_z, d_n]);
        s.d_rh.copy_from_slice(&[d_r, d_z, d_n]);
        s.d_prev[0] = s.d_next[0] * z + s.d_mid * r;
    }
}
