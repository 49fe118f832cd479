//! [`Narrow`]: the reference with what a step hands on rounded to f32, so that it overflows where f32 does.

use std::borrow::Cow;

use tidegate::Cell;
use tidegate::cell::{BackwardStep, CellSpec, ForwardStep};

/// A cell whose pre-activations, states and gradients are f32 between the steps; on the CPU alone.
#[derive(Debug)]
pub struct Narrow<'a> {
    cell: &'a dyn Cell,
    nudge: f64,
}

impl<'a> Narrow<'a> {
    pub fn new(cell: &'a dyn Cell) -> Self {
        Self { cell, nudge: 0.0 }
    }

    /// With pre-activations off by as much, and by as much of their size: to see what is so near a kink that rounding decides.
    pub fn nudged(cell: &'a dyn Cell, nudge: f64) -> Self {
        Self { cell, nudge }
    }

    fn nudge(&self, values: &[f64]) -> Vec<f64> {
        let off = |value: f64| if value.is_finite() { self.nudge * (1.0 + value.abs()) } else { 0.0 };
        narrow(&values.iter().map(|&value| value + off(value)).collect::<Vec<_>>())
    }
}

fn narrow(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value as f32)).collect()
}

fn narrow_all<const N: usize>(values: [&mut [f64]; N]) {
    values.into_iter().flatten().for_each(|value| *value = f64::from(*value as f32));
}

impl Cell for Narrow<'_> {
    fn name(&self) -> &str {
        self.cell.name()
    }

    fn spec(&self) -> CellSpec {
        self.cell.spec()
    }

    fn wgsl(&self) -> Cow<'_, str> {
        self.cell.wgsl()
    }

    fn forward(&self, s: ForwardStep<'_>) {
        let (wx, rh) = (self.nudge(s.wx), self.nudge(s.rh));
        self.cell.forward(ForwardStep { wx: &wx, rh: &rh, prev: s.prev, unit: s.unit, next: &mut *s.next, saved: &mut *s.saved });
        narrow_all([s.next, s.saved]);
    }

    fn mid(&self, wx: &[f64], rh: &[f64], prev: &[f64], unit: &[f64]) -> f64 {
        f64::from(self.cell.mid(&self.nudge(wx), &self.nudge(rh), prev, unit) as f32)
    }

    fn mid_saved(&self, saved: &[f64], prev: &[f64]) -> f64 {
        f64::from(self.cell.mid_saved(saved, prev) as f32)
    }

    fn backward(&self, s: BackwardStep<'_>) {
        let d_next = narrow(s.d_next);
        self.cell.backward(BackwardStep {
            saved: s.saved,
            prev: s.prev,
            next: s.next,
            unit: s.unit,
            d_next: &d_next,
            d_mid: f64::from(s.d_mid as f32),
            d_wx: &mut *s.d_wx,
            d_rh: &mut *s.d_rh,
            d_prev: &mut *s.d_prev,
            d_unit: &mut *s.d_unit,
        });
        narrow_all([s.d_wx, s.d_rh, s.d_prev, s.d_unit]);
    }
}
