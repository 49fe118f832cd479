//! The minimal gated unit, a cell that tidegate does not ship.

use std::borrow::Cow;

use tidegate::Cell;
use tidegate::cell::{BackwardStep, CellSpec, ForwardStep};

/// f = σ(wx + rh), n = tanh(wx_n + f·rh_n); h' = (1−f)·h + f·n.
///
/// Zhou et al. 2016, "Minimal Gated Unit for Recurrent Neural Networks" (arXiv:1603.09420): a GRU whose one gate forgets
/// and updates. The paper's f scales h before the product with the weights of n; here it scales the product, as r does in
/// PyTorch's GRU, so that a step needs one product instead of two.
#[derive(Debug)]
pub struct MinimalGated;

impl Cell for MinimalGated {
    fn name(&self) -> &str {
        "minimal_gated"
    }

    /// Rows of the weights: f first, then n. Backward needs f, n and rh of n; h itself is a state and kept anyway.
    fn spec(&self) -> CellSpec {
        CellSpec::new(&["f", "n"], 3)
            // f scales the recurrent part of n alone, so its gradient differs from that of the input part.
            .with_split_gradients(true)
            // For `tidegate::gates` alone.
            .with_formula("h' = (1−f)·h + f·n")
            .with_gate("f", "forget and update gate", "h is copied", "h is renewed by n")
            .with_candidate("n")
    }

    fn wgsl(&self) -> Cow<'_, str> {
        include_str!("minimal_gated.wgsl").into()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        let f = sigmoid(s.wx[0] + s.rh[0]);
        let n = (s.wx[1] + f * s.rh[1]).tanh();
        s.next[0] = (1.0 - f) * s.prev[0] + f * n;
        s.saved.copy_from_slice(&[f, n, s.rh[1]]);
    }

    fn backward(&self, s: BackwardStep<'_>) {
        let &[f, n, rh_n] = s.saved else { unreachable!("`saved` says three") };
        let d_n = s.d_next[0] * f * (1.0 - n * n);
        let d_f = (s.d_next[0] * (n - s.prev[0]) + d_n * rh_n) * f * (1.0 - f);
        s.d_wx.copy_from_slice(&[d_f, d_n]);
        s.d_rh.copy_from_slice(&[d_f, d_n * f]);
        s.d_prev[0] = s.d_next[0] * (1.0 - f);
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
