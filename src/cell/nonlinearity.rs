//! [`Nonlinearity`]: an activation with its clip, as a cell uses it on the CPU and in WGSL.

use crate::cell::activation::{Activation, wgsl_f32};
use crate::error::{Error, Result};

/// An activation as a cell uses it: its input clamped to ±`clip`, and one value kept from which backward restores both
/// output and slope. That value is the output where the derivative follows from it, else the pre-activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nonlinearity {
    /// The function.
    pub activation: Activation,
    /// ONNX `clip`: bounds the activation's input; the gradient is 0 where it does.
    pub clip: Option<f32>,
}

impl Nonlinearity {
    /// An activation without clip.
    pub fn new(activation: Activation) -> Self {
        Self { activation, clip: None }
    }

    /// The same with that clip, or none.
    pub fn with_clip(self, clip: Option<f32>) -> Self {
        Self { clip, ..self }
    }

    /// Refuses a clip that is not positive and parameters that are not finite.
    pub fn validate(&self) -> Result<()> {
        let (alpha, beta) = self.activation.alpha_beta();
        if !(alpha.is_finite() && beta.is_finite()) {
            return Err(Error::Config(format!(
                "activation {}: alpha {alpha} and beta {beta} must be finite",
                self.activation.name()
            )));
        }
        check_bound("clip", self.clip)
    }

    /// Whether the pre-activation is kept instead of the output.
    pub fn keeps_input(&self) -> bool {
        self.clip.is_some() || !self.activation.follows_from_output()
    }

    fn clamp(&self, a: f64) -> f64 {
        self.clip.map_or(a, |c| a.clamp(-f64::from(c), c.into()))
    }

    /// y of pre-activation `a`.
    pub fn value(&self, a: f64) -> f64 {
        self.activation.value(self.clamp(a))
    }

    /// dy/da.
    pub fn derivative(&self, a: f64, y: f64) -> f64 {
        let clamped = self.clip.is_some_and(|c| a.abs() > c.into());
        if clamped { 0.0 } else { self.activation.derivative(a, y) }
    }

    /// The one value that backward needs.
    pub fn keep(&self, a: f64, y: f64) -> f64 {
        if self.keeps_input() { a } else { y }
    }

    /// y from the kept value.
    pub fn restore(&self, kept: f64) -> f64 {
        if self.keeps_input() { self.value(kept) } else { kept }
    }

    /// dy/da from the kept value.
    pub fn slope(&self, kept: f64) -> f64 {
        self.derivative(kept, self.restore(kept))
    }

    /// The five functions above as WGSL, named `{slot}_value` and so on.
    pub fn wgsl(&self, slot: &str) -> String {
        let (value, derivative) = self.activation.wgsl();
        let clamp = self.clip.map_or("a".into(), |c| format!("bounded(a, -{c}, {c})", c = wgsl_f32(c)));
        let derivative = match self.clip {
            Some(c) => format!("select({derivative}, 0.0, abs(x) > {} && !is_nan(x))", wgsl_f32(c)),
            None => derivative,
        };
        let (keep, restore) = if self.keeps_input() { ("a", format!("{slot}_value(kept)")) } else { ("y", "kept".into()) };
        format!(
            "fn {slot}_value(a: f32) -> f32 {{ let x = {clamp}; return {value}; }}
fn {slot}_derivative(x: f32, y: f32) -> f32 {{ return {derivative}; }}
fn {slot}_keep(a: f32, y: f32) -> f32 {{ return {keep}; }}
fn {slot}_restore(kept: f32) -> f32 {{ return {restore}; }}
fn {slot}_slope(kept: f32) -> f32 {{ return {slot}_derivative(kept, {slot}_restore(kept)); }}
"
        )
    }
}

/// Refuses a bound that is not a positive finite number.
pub(crate) fn check_bound(name: &str, bound: Option<f32>) -> Result<()> {
    match bound {
        Some(c) if !(c > 0.0 && c.is_finite()) => Err(Error::Config(format!("`{name}` is {c}, must be positive and finite"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::activation::Activation::*;
    use crate::cell::activation::tests::ALL;

    fn gates() -> impl Iterator<Item = Nonlinearity> {
        ALL.into_iter().flat_map(|activation| [None, Some(0.7)].map(|clip| Nonlinearity { activation, clip }))
    }

    /// Points that keep clear of every kink.
    fn points() -> impl Iterator<Item = f64> {
        (0..100).map(|k| -3.0 + 0.0613 * f64::from(k))
    }

    #[test]
    fn slope_is_the_derivative_of_value() {
        for gate in gates() {
            for a in points() {
                let y = gate.value(a);
                let kept = gate.keep(a, y);
                assert_eq!(gate.restore(kept), y, "{gate:?} at {a}");
                assert_eq!(gate.slope(kept), gate.derivative(a, y), "{gate:?} at {a}");
                let difference = (gate.value(a + 1e-6) - gate.value(a - 1e-6)) / 2e-6;
                assert!((gate.slope(kept) - difference).abs() <= 1e-8, "{gate:?} at {a}: {} {difference}", gate.slope(kept));
            }
        }
    }

    /// Where a clip stops at the threshold, it is often met exactly.
    #[test]
    fn the_threshold_lets_its_own_value_through() {
        for alpha in [0.5f32, -0.25] {
            let gate = Nonlinearity::new(ThresholdedRelu { alpha });
            let alpha = f64::from(alpha);
            assert_eq!(gate.value(alpha), alpha);
            assert_eq!(gate.slope(gate.keep(alpha, alpha)), 1.0);
        }
    }

    #[test]
    fn only_what_is_kept_reaches_backward() {
        for gate in gates() {
            let (a, y) = (0.4, gate.value(0.4));
            assert_eq!(gate.keep(a, y), if gate.keeps_input() { a } else { y }, "{gate:?}");
            // x must not be read where the output is kept: slope has only y to pass as x.
            if !gate.keeps_input() {
                assert_eq!(gate.derivative(f64::NAN, y), gate.derivative(a, y), "{gate:?}");
            }
        }
    }

    #[test]
    fn far_inputs_stay_finite() {
        for gate in gates() {
            for a in [-1e4, 1e4] {
                let y = gate.value(a);
                assert!(y.is_finite() && gate.slope(gate.keep(a, y)).is_finite(), "{gate:?} at {a}");
            }
        }
    }

    #[test]
    fn refuses_what_means_nothing() {
        for clip in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(Nonlinearity::new(Tanh).with_clip(Some(clip)).validate().is_err(), "{clip}");
        }
        assert!(Nonlinearity::new(Elu { alpha: f32::NAN }).validate().is_err());
        assert!(Nonlinearity::new(Affine { alpha: 1.0, beta: f32::INFINITY }).validate().is_err());
    }
}
