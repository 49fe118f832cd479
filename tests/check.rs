//! `check_cell` passes an honest cell and finds every kind of lie in another.

mod common;

use std::borrow::Cow;

use tidegate::cell::{BackwardStep, CellSpec, ForwardStep};
use tidegate::check::check_cell;
use tidegate::{Cell, Gru, Result};

/// A shipped cell with one thing wrong, as its author would have it: not trusted, so its WGSL runs with bounds checks.
#[derive(Debug)]
struct Bent<C> {
    cell: C,
    lie: Lie,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    /// CPU backward: a gate's gradient off by a thousandth.
    Gradient,
    /// CPU backward: the carried gradient is lost.
    Carry,
    /// WGSL: a constant of the forward function.
    Forward,
    /// WGSL: the sign of a gate's gradient.
    Backward,
    /// The second operand of the recurrent weights' gradient.
    Mid,
    /// Says that d_rh equals d_wx.
    Unsplit,
}

impl<C: Cell> Cell for Bent<C> {
    fn name(&self) -> &str {
        self.cell.name()
    }
    fn spec(&self) -> CellSpec {
        let spec = self.cell.spec();
        let split = spec.split_gradients && self.lie != Lie::Unsplit;
        spec.with_split_gradients(split)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        let wgsl = self.cell.wgsl();
        let bent = match self.lie {
            Lie::Forward => wgsl.replacen("(1.0 - z)", "(0.999 - z)", 1),
            Lie::Backward => wgsl.replacen("Gates(d_r,", "Gates(-d_r,", 2),
            _ => return wgsl,
        };
        assert_ne!(bent, wgsl);
        bent.into()
    }
    fn forward(&self, step: ForwardStep<'_>) {
        self.cell.forward(step);
    }
    fn mid(&self, wx: &[f64], rh: &[f64], prev: &[f64], unit: &[f64]) -> f64 {
        self.cell.mid(wx, rh, prev, unit)
    }
    fn mid_saved(&self, saved: &[f64], prev: &[f64]) -> f64 {
        let mid = self.cell.mid_saved(saved, prev);
        if self.lie == Lie::Mid { 1.01 * mid } else { mid }
    }
    fn backward(&self, step: BackwardStep<'_>) {
        let BackwardStep { d_wx, d_rh, d_prev, d_unit, saved, prev, next, unit, d_next, d_mid } = step;
        let reborrowed = BackwardStep {
            d_wx: &mut *d_wx,
            d_rh: &mut *d_rh,
            d_prev: &mut *d_prev,
            d_unit,
            saved,
            prev,
            next,
            unit,
            d_next,
            d_mid,
        };
        self.cell.backward(reborrowed);
        match self.lie {
            Lie::Gradient => d_wx[1] *= 1.001,
            Lie::Carry => d_prev[0] = 0.0,
            _ => {}
        }
    }
}

fn verdict(cell: impl Cell + 'static) -> Result<tidegate::check::CellReport> {
    pollster::block_on(check_cell(&common::context(), cell))
}

#[test]
fn an_honest_cell_passes() {
    let report = verdict(Bent { cell: Gru::reset_before(), lie: Lie::None }).unwrap();
    assert!(report.differences > 500 && report.gpu_cases >= 4, "{report}");
    verdict(Bent { cell: Gru::default(), lie: Lie::None }).unwrap();
}

#[test]
fn every_lie_is_found() {
    for lie in [Lie::Gradient, Lie::Carry, Lie::Forward, Lie::Backward] {
        let error = verdict(Bent { cell: Gru::default(), lie }).expect_err(&format!("{lie:?}"));
        println!("{lie:?}: {error}");
    }
    verdict(Bent { cell: Gru::reset_before(), lie: Lie::Mid }).expect_err("Mid");
    verdict(Bent { cell: Gru::default(), lie: Lie::Unsplit }).expect_err("Unsplit");
}
