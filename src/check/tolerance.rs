//! How close is close enough.
#![expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN must not pass for a number")]

use crate::error::{Error, Result, check_len};
use crate::gpu::dtype::Dtype;
use crate::network::config::RnnConfig;
use crate::network::sequence::SeqShape;

/// How far f32 results may lie from the float64 reference on the same stored inputs, per tensor.
///
/// The bound on the relative L2 error is oneDNN's (benchdnn): it grows with the logarithm of the summed dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Bound on |actual − truth|₂ / |truth|₂.
    pub relative_l2: f64,
    /// Bound on the largest |actual − truth|, times 1 + the largest |truth|.
    pub absolute: f64,
    /// What a tensor of under 8 elements may be off by, beyond `small_relative` of its largest truth: too few for errors to
    /// average out.
    pub small: f64,
    /// See `small`.
    pub small_relative: f64,
    backward: bool,
}

/// Below this f32 is subnormal or near it: such a truth counts as 0.
const TINY: f64 = 1e-30;

impl Tolerance {
    /// For the outputs (or, with `backward`, the gradients) of a network of f32 storage.
    pub fn new(config: &RnnConfig, shape: SeqShape, backward: bool) -> Self {
        let widest = (0..config.num_layers).map(|l| config.layer_input_size(l)).max().unwrap_or(0);
        let depth = ((widest + config.hidden_size) * shape.seq_len) as f64;
        // A parameter's gradient is a sum over T·B terms of about 1 that may cancel, each off by some 1e-7.
        let terms = if backward { (shape.rows() as f64).sqrt() / 2.0 } else { 1.0 };
        let twice = f64::from(u8::from(backward));
        Self {
            relative_l2: 4.0 * (1.0 + twice) * depth.log2().ceil().max(1.0) * 1.2e-7,
            absolute: 1e-4 + 4e-4 * twice,
            small: 1e-6 * terms.max(1.0),
            small_relative: 1e-5,
            backward,
        }
    }

    /// For results of a network of this storage, from parameters and inputs that f16 holds exactly: what lies between layers and
    /// comes out is rounded.
    pub fn for_dtype(self, dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => self,
            Dtype::F16 => {
                let relative_l2 = if self.backward { 2e-3 } else { 1e-3 };
                Self { relative_l2, absolute: 2.0 * relative_l2, small: 1e3 * self.small, small_relative: 2e-3, ..self }
            }
        }
    }

    /// The relative L2 error, or [`Error::Mismatch`] if it or the largest absolute error is too large, or is NaN. A truth of
    /// zeros must be met within 1e-6.
    pub fn compare(&self, name: &str, truth: &[f64], actual: &[f32]) -> Result<f64> {
        check_len(name, truth.len(), actual.len())?;
        let (mut error2, mut truth2, mut largest_error, mut largest_truth) = (0.0, 0.0, 0.0f64, 0.0f64);
        for (&truth, &actual) in truth.iter().zip(actual) {
            let error = (f64::from(actual) - truth).abs();
            // `max` would drop a NaN.
            if !(error <= largest_error) {
                largest_error = error;
            }
            error2 += error * error;
            truth2 += truth * truth;
            largest_truth = largest_truth.max(truth.abs());
        }
        let within = |measure, error: f64, allowed: f64| {
            if error <= allowed { Ok(()) } else { Err(Error::Mismatch { name: name.into(), measure, error, allowed }) }
        };
        if largest_truth < TINY {
            within("largest error where all is zero", largest_error, 1e-6)?;
            return Ok(0.0);
        }
        let relative = (error2 / truth2).sqrt();
        if truth.len() < 8 {
            let allowed = self.small + self.small_relative * largest_truth;
            within("largest error of a small tensor", largest_error, allowed)?;
            return Ok(relative.min(largest_error));
        }
        within("relative L2 error", relative, self.relative_l2)?;
        within("largest error", largest_error, self.absolute * (1.0 + largest_truth))?;
        Ok(relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: SeqShape = SeqShape { seq_len: 4, batch_size: 2 };

    fn compare(truth: &[f64], actual: &[f32]) -> Result<f64> {
        Tolerance::new(&RnnConfig::new(3, 5), SHAPE, false).compare("y", truth, actual)
    }

    #[test]
    fn refuses_what_is_off() {
        let truth = [0.5, -0.25, 1.0, 0.125, 2.0, -3.0, 0.75, 1.5];
        let actual = truth.map(|y| y as f32);
        assert_eq!(compare(&truth, &actual).unwrap(), 0.0);
        for (index, value) in [(2, 1.0 + 1e-4), (0, f32::NAN), (5, f32::INFINITY), (7, f32::NEG_INFINITY)] {
            let mut wrong = actual;
            wrong[index] = value;
            assert!(compare(&truth, &wrong).is_err(), "{value} at {index}");
            assert!(compare(&truth[index..=index], &wrong[index..=index]).is_err(), "{value} alone");
            assert!(compare(&[0.0; 8], &wrong).is_err(), "{value} where all is 0");
        }
        assert!(compare(&truth, &actual[1..]).is_err());
    }

    #[test]
    fn one_large_error_does_not_hide_among_many_values() {
        let truth = vec![1.0; 10_000_000];
        let mut actual = vec![1.0f32; truth.len()];
        actual[7] = 1.0 + 1e-3;
        assert!(compare(&truth, &actual).is_err());
    }
}
