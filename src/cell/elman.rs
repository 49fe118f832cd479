//! Simple recurrent network (Elman 1990, "Finding Structure in Time"; PyTorch's `nn.RNN`, ONNX `RNN`).

use std::borrow::Cow;

use crate::cell::activation::Activation;
use crate::cell::nonlinearity::Nonlinearity;
use crate::cell::sealed::Token;
use crate::cell::{BackwardStep, Cell, CellSpec, ForwardStep};
use crate::error::Result;

/// h' = f(wx + rh), with f the identity (linear RNN), tanh, relu or any other activation.
///
/// PyTorch's `nn.RNN` with `nonlinearity` tanh or relu; ONNX `RNN` with any activation and `clip`.
#[derive(Debug, Clone, PartialEq)]
pub struct Elman {
    name: &'static str,
    /// f (ONNX `f`), with ONNX `clip`.
    pub gate: Nonlinearity,
}

impl Elman {
    /// `rnn_linear`: f is the identity, so the output is the state.
    pub fn linear() -> Self {
        Self::new(Activation::IDENTITY)
    }

    /// `rnn_tanh`: PyTorch's default.
    pub fn tanh() -> Self {
        Self::new(Activation::Tanh)
    }

    /// `rnn_relu`: PyTorch's `nonlinearity="relu"`.
    pub fn relu() -> Self {
        Self::new(Activation::Relu)
    }

    /// Any activation; named `rnn` unless it is one of the three above.
    pub fn new(activation: Activation) -> Self {
        let name = match activation {
            Activation::IDENTITY => "rnn_linear",
            Activation::Tanh => "rnn_tanh",
            Activation::Relu => "rnn_relu",
            _ => "rnn",
        };
        Self { name, gate: Nonlinearity::new(activation) }
    }

    /// ONNX `clip`: bounds the pre-activation.
    pub fn with_clip(self, clip: f32) -> Self {
        Self { gate: self.gate.with_clip(Some(clip)), ..self }
    }
}

impl Cell for Elman {
    fn name(&self) -> &str {
        self.name
    }

    /// The output is the state, which is kept anyway.
    fn spec(&self) -> CellSpec {
        let f = match self.name {
            "rnn_linear" => "wx + rh",
            "rnn_tanh" => "tanh(wx + rh)",
            "rnn_relu" => "max(0, wx + rh)",
            _ => "f(wx + rh)",
        };
        CellSpec::new(&["h"], self.gate.keeps_input().into())
            .with_formula(format!("h' = {f}: no gate, every step renews the whole state"))
    }

    fn validate(&self) -> Result<()> {
        self.gate.validate()
    }

    fn trusted(&self, _: Token) -> bool {
        true
    }

    fn wgsl(&self) -> Cow<'_, str> {
        let flags = format!("const KEEPS_INPUT = {};\n", self.gate.keeps_input());
        (flags + &self.gate.wgsl("gate") + include_str!("../../shaders/cell/elman.wgsl")).into()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        let a = s.wx[0] + s.rh[0];
        s.next[0] = self.gate.value(a);
        if self.gate.keeps_input() {
            s.saved[0] = a;
        }
    }

    /// The only gate is the new state.
    fn gate_value(&self, gate: usize, _: &[f64], next: &[f64]) -> Option<f64> {
        (gate == 0).then(|| next[0])
    }

    fn backward(&self, s: BackwardStep<'_>) {
        let kept = if self.gate.keeps_input() { s.saved[0] } else { s.next[0] };
        let d_a = s.d_next[0] * self.gate.slope(kept);
        s.d_wx[0] = d_a;
        s.d_rh[0] = d_a;
        s.d_prev[0] = 0.0;
    }
}
