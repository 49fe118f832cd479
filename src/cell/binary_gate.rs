//! A unit that is either copied or replaced, by a gate of 0 or 1.

use std::borrow::Cow;

use crate::cell::activation::Activation;
use crate::cell::sealed::Token;
use crate::cell::{BackwardStep, Cell, CellSpec, ForwardStep};

/// G = [wx_g + rh_g > 0] in {0, 1}, n = tanh(wx_n + rh_n); h' = G·n + (1−G)·h.
///
/// Backward is the straight-through estimator (Bengio, Léonard and Courville 2013, arXiv:1308.3432): G counts as σ of
/// its pre-activation a, so da = dh'·(n−h)·σ'(a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BinaryGate;

impl Cell for BinaryGate {
    fn name(&self) -> &str {
        "binary_gate"
    }

    fn spec(&self) -> CellSpec {
        CellSpec::new(&["g", "n"], 2)
            .with_formula("h' = g·n + (1−g)·h with g of 0 or 1")
            .with_gate("g", "binary gate", "h is copied", "h is renewed by n")
            .with_candidate("n")
    }

    fn trusted(&self, _: Token) -> bool {
        true
    }

    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("../../shaders/cell/binary_gate.wgsl").into()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        let a = s.wx[0] + s.rh[0];
        let g = heaviside(a);
        let n = (s.wx[1] + s.rh[1]).tanh();
        s.next[0] = g * n + (1.0 - g) * s.prev[0];
        s.saved.copy_from_slice(&[a, n]);
    }

    /// G₀ + σ(a) − σ(a₀): equal to G at a₀, with the slope that backward takes.
    fn surrogate(&self, s: ForwardStep<'_>, frozen: &[f64]) {
        let a = s.wx[0] + s.rh[0];
        let g = heaviside(frozen[0]) + Activation::Sigmoid.value(a) - Activation::Sigmoid.value(frozen[0]);
        let n = (s.wx[1] + s.rh[1]).tanh();
        s.next[0] = g * n + (1.0 - g) * s.prev[0];
        s.saved.copy_from_slice(&[a, n]);
    }

    /// Distance of a to 0; an a of exactly 0 is a sum of zeros, and the same in f32.
    fn margin(&self, saved: &[f64]) -> f64 {
        if saved[0] == 0.0 { f64::INFINITY } else { saved[0].abs() }
    }

    /// Saved are G's pre-activation and n.
    fn gate_value(&self, gate: usize, saved: &[f64], _: &[f64]) -> Option<f64> {
        [heaviside(saved[0]), saved[1]].get(gate).copied()
    }

    fn backward(&self, s: BackwardStep<'_>) {
        let (a, n) = (s.saved[0], s.saved[1]);
        let g = heaviside(a);
        let y = Activation::Sigmoid.value(a);
        let d_a = s.d_next[0] * (n - s.prev[0]) * y * (1.0 - y);
        let d_n = s.d_next[0] * g * (1.0 - n * n);
        s.d_wx.copy_from_slice(&[d_a, d_n]);
        s.d_rh.copy_from_slice(&[d_a, d_n]);
        s.d_prev[0] = s.d_next[0] * (1.0 - g);
    }
}

fn heaviside(a: f64) -> f64 {
    if a.is_nan() { a } else { f64::from(u8::from(a > 0.0)) }
}
