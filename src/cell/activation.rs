//! ONNX's eleven activations, on the CPU and in WGSL.

use crate::error::{Error, Result};

/// An activation of ONNX's list (RNN, LSTM and GRU operators, opset 22); `alpha` and `beta` as there.
#[expect(missing_docs, reason = "alpha and beta are in each variant's formula")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// alpha·x + beta; `Affine { alpha: 1.0, beta: 0.0 }` is the identity.
    Affine { alpha: f32, beta: f32 },
    /// x if x >= 0, else alpha·x
    LeakyRelu { alpha: f32 },
    /// x if x >= alpha, else 0: as the recurrent operators have it; ONNX's operator of that name has x > alpha.
    ThresholdedRelu { alpha: f32 },
    /// alpha·tanh(beta·x)
    ScaledTanh { alpha: f32, beta: f32 },
    /// min(1, max(0, alpha·x + beta))
    HardSigmoid { alpha: f32, beta: f32 },
    /// x if x >= 0, else alpha·(eˣ − 1)
    Elu { alpha: f32 },
    /// x / (1 + |x|)
    Softsign,
    /// ln(1 + eˣ)
    Softplus,
}

use Activation::*;

impl Activation {
    /// The identity, as an `Affine`.
    pub const IDENTITY: Self = Affine { alpha: 1.0, beta: 0.0 };

    /// ONNX's name.
    pub fn name(&self) -> &'static str {
        match self {
            Relu => "Relu",
            Tanh => "Tanh",
            Sigmoid => "Sigmoid",
            Affine { .. } => "Affine",
            LeakyRelu { .. } => "LeakyRelu",
            ThresholdedRelu { .. } => "ThresholdedRelu",
            ScaledTanh { .. } => "ScaledTanh",
            HardSigmoid { .. } => "HardSigmoid",
            Elu { .. } => "Elu",
            Softsign => "Softsign",
            Softplus => "Softplus",
        }
    }

    /// The activation of that ONNX name (case does not matter); where `alpha` or `beta` is absent, ONNX's default.
    pub fn from_name(name: &str, alpha: Option<f32>, beta: Option<f32>) -> Result<Self> {
        Self::consume(name, &mut alpha.into_iter(), &mut beta.into_iter())
    }

    /// The same, that takes a value from `alphas` and one from `betas` only if it has such a parameter: as ONNX's recurrent
    /// operators consume their lists.
    pub(crate) fn consume(
        name: &str,
        alphas: &mut impl Iterator<Item = f32>,
        betas: &mut impl Iterator<Item = f32>,
    ) -> Result<Self> {
        let mut alpha_or = |default| alphas.next().unwrap_or(default);
        let mut beta_or = |default| betas.next().unwrap_or(default);
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => Relu,
            "tanh" => Tanh,
            "sigmoid" => Sigmoid,
            "affine" => Affine { alpha: alpha_or(1.0), beta: beta_or(0.0) },
            "leakyrelu" => LeakyRelu { alpha: alpha_or(0.01) },
            "thresholdedrelu" => ThresholdedRelu { alpha: alpha_or(1.0) },
            "scaledtanh" => ScaledTanh { alpha: alpha_or(1.0), beta: beta_or(1.0) },
            "hardsigmoid" => HardSigmoid { alpha: alpha_or(0.2), beta: beta_or(0.5) },
            "elu" => Elu { alpha: alpha_or(1.0) },
            "softsign" => Softsign,
            "softplus" => Softplus,
            _ => {
                let known =
                    "Relu, Tanh, Sigmoid, Affine, LeakyRelu, ThresholdedRelu, ScaledTanh, HardSigmoid, Elu, Softsign, Softplus";
                return Err(Error::UnknownName { kind: "activation", name: name.into(), known: known.into() });
            }
        })
    }

    pub(super) fn alpha_beta(&self) -> (f64, f64) {
        let (alpha, beta) = match *self {
            Affine { alpha, beta } | ScaledTanh { alpha, beta } | HardSigmoid { alpha, beta } => (alpha, beta),
            LeakyRelu { alpha } | ThresholdedRelu { alpha } | Elu { alpha } => (alpha, 0.0),
            Relu | Tanh | Sigmoid | Softsign | Softplus => (0.0, 0.0),
        };
        (alpha.into(), beta.into())
    }

    /// y = f(x).
    pub fn value(&self, x: f64) -> f64 {
        let (alpha, beta) = self.alpha_beta();
        match self {
            // Written so that a NaN comes through, as in PyTorch.
            Relu => select(x, 0.0, x <= 0.0),
            Tanh => x.tanh(),
            Sigmoid => sigmoid(x),
            Affine { .. } => alpha * x + beta,
            LeakyRelu { .. } => select(alpha * x, x, x >= 0.0),
            ThresholdedRelu { .. } => select(x, 0.0, x < alpha),
            ScaledTanh { .. } => alpha * (beta * x).tanh(),
            HardSigmoid { .. } => (alpha * x + beta).clamp(0.0, 1.0),
            Elu { .. } => select(alpha * x.exp_m1(), x, x >= 0.0),
            Softsign => x / (1.0 + x.abs()),
            Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }

    /// Whether the derivative follows from y alone, so that x need not be kept.
    pub fn follows_from_output(&self) -> bool {
        match *self {
            LeakyRelu { alpha } | Elu { alpha } => alpha > 0.0,
            ThresholdedRelu { alpha } => alpha > 0.0,
            _ => true,
        }
    }

    /// dy/dx. `x` is read only where the derivative does not follow from y.
    pub(super) fn derivative(&self, x: f64, y: f64) -> f64 {
        let (alpha, beta) = self.alpha_beta();
        let side = if self.follows_from_output() { y } else { x };
        match self {
            Relu => select(1.0, 0.0, side <= 0.0),
            Tanh => 1.0 - y * y,
            Sigmoid => y * (1.0 - y),
            Affine { .. } => alpha,
            LeakyRelu { .. } => select(alpha, 1.0, side >= 0.0),
            ThresholdedRelu { .. } => select(1.0, 0.0, side < alpha),
            ScaledTanh { .. } => select(beta * (alpha - y * y / alpha), 0.0, alpha == 0.0),
            HardSigmoid { .. } => select(0.0, alpha, y > 0.0 && y < 1.0),
            Elu { .. } => select(y + alpha, 1.0, side >= 0.0),
            Softsign => (1.0 - y.abs()) * (1.0 - y.abs()),
            Softplus => 1.0 - (-y).exp(),
        }
    }

    /// WGSL expressions of value (in `x`) and derivative (in `x` and `y`); the functions are in `shared/activations.wgsl`.
    pub(super) fn wgsl(&self) -> (String, String) {
        let (alpha, beta) = self.alpha_beta();
        let (a, b) = (wgsl_f32(alpha as f32), wgsl_f32(beta as f32));
        let side = if self.follows_from_output() { "y" } else { "x" };
        let (value, derivative) = match self {
            Relu => ("relu(x)".into(), format!("d_relu({side})")),
            Tanh => ("tanh_sat(x)".into(), "d_tanh(y)".into()),
            Sigmoid => ("sigmoid(x)".into(), "d_sigmoid(y)".into()),
            Affine { .. } => (format!("{a} * x + {b}"), a.clone()),
            LeakyRelu { .. } => (format!("leaky_relu(x, {a})"), format!("d_leaky_relu({side}, {a})")),
            ThresholdedRelu { .. } => (format!("thresholded_relu(x, {a})"), format!("d_thresholded_relu({side}, {a})")),
            ScaledTanh { .. } if alpha == 0.0 => ("select(0.0, x, is_nan(x))".into(), "0.0".into()),
            ScaledTanh { .. } => (format!("{a} * tanh_sat({b} * x)"), format!("{b} * ({a} - y * y / {a})")),
            HardSigmoid { .. } => (format!("bounded({a} * x + {b}, 0.0, 1.0)"), format!("d_hard_sigmoid(y, {a})")),
            Elu { .. } => (format!("elu(x, {a})"), format!("d_elu({side}, y, {a})")),
            Softsign => ("softsign(x)".into(), "d_softsign(y)".into()),
            Softplus => ("softplus(x)".into(), "d_softplus(y)".into()),
        };
        (value, derivative)
    }
}

/// As WGSL's: `yes` if the condition holds.
fn select(no: f64, yes: f64, condition: bool) -> f64 {
    if condition { yes } else { no }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// A finite f32 as a WGSL expression of exactly that value.
pub fn wgsl_f32(value: f32) -> String {
    format!("({value:e}f)")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every activation; those that may keep their input also with such an alpha.
    pub const ALL: [Activation; 17] = [
        Relu,
        Tanh,
        Sigmoid,
        Activation::IDENTITY,
        Affine { alpha: -0.8, beta: 0.2 },
        LeakyRelu { alpha: 0.1 },
        LeakyRelu { alpha: 0.0 },
        LeakyRelu { alpha: -0.5 },
        ThresholdedRelu { alpha: 0.3 },
        ThresholdedRelu { alpha: 0.0 },
        ThresholdedRelu { alpha: -0.2 },
        ScaledTanh { alpha: 1.7, beta: -0.6 },
        HardSigmoid { alpha: 0.4, beta: 0.5 },
        Elu { alpha: 0.7 },
        Elu { alpha: -0.7 },
        Softsign,
        Softplus,
    ];

    #[test]
    fn names_are_found_again() {
        for activation in ALL {
            let (alpha, beta) = activation.alpha_beta();
            let found = Activation::from_name(&activation.name().to_lowercase(), Some(alpha as f32), Some(beta as f32));
            assert_eq!(found.unwrap(), activation);
        }
        let message = Activation::from_name("Swish", None, None).unwrap_err().to_string();
        assert!(message.contains("Swish") && message.contains("HardSigmoid"), "{message}");
    }

    #[test]
    fn literals_are_exact() {
        for value in [0.1, -1.0 / 3.0, f32::MAX, f32::MIN_POSITIVE, 0.0] {
            let text = wgsl_f32(value);
            assert_eq!(text.trim_start_matches('(').trim_end_matches("f)").parse::<f32>().unwrap(), value, "{text}");
        }
    }
}
