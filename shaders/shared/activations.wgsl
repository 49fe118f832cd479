// needs: shared/floats
// Activations and their derivatives. A derivative takes the output y where it follows from it; `side` is the output or
// the input, whichever tells on which side of the kink the unit is. A NaN comes through all of them.

// The exponential of what is not positive, which does not overflow: exactly 0 for an infinity.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-min(abs(x), 104.0));
    let y = select(1.0, e, x < 0.0) / (1.0 + e);
    return select(y, x, is_nan(x));
}

fn d_sigmoid(y: f32) -> f32 {
    return y * (1.0 - y);
}

// The built-in tanh may be NaN past |x| = 88 (gpuweb issue 4458), and its relative error near 0 is unbounded on drivers that
// take it from exponentials. Polynomial of Cephes' tanhf (error 1e-7), and the exponential where nothing cancels.
fn tanh_sat(x: f32) -> f32 {
    let a = min(abs(x), 15.0);
    let z = a * a;
    let p = (((-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2) * z + 1.33314422036e-1) * z - 3.33332819422e-1;
    let y = select(1.0 - 2.0 / (exp(2.0 * a) + 1.0), p * z * a + a, a < 0.625);
    return select(select(y, -y, x < 0.0), x, is_nan(x));
}

fn d_tanh(y: f32) -> f32 {
    return 1.0 - y * y;
}

fn relu(x: f32) -> f32 {
    return select(max(x, 0.0), x, is_nan(x));
}

fn d_relu(side: f32) -> f32 {
    return select(0.0, 1.0, side > 0.0 || is_nan(side));
}

fn leaky_relu(x: f32, alpha: f32) -> f32 {
    return select(alpha * x, x, x >= 0.0 || is_nan(x));
}

fn d_leaky_relu(side: f32, alpha: f32) -> f32 {
    return select(alpha, 1.0, side >= 0.0);
}

fn thresholded_relu(x: f32, alpha: f32) -> f32 {
    return select(x, 0.0, x < alpha && !is_nan(x));
}

fn d_thresholded_relu(side: f32, alpha: f32) -> f32 {
    return select(0.0, 1.0, side >= alpha || is_nan(side));
}

fn d_hard_sigmoid(y: f32, alpha: f32) -> f32 {
    return select(0.0, alpha, y > 0.0 && y < 1.0 && !is_nan(y));
}

fn elu(x: f32, alpha: f32) -> f32 {
    return select(alpha * (exp(clamp(x, -104.0, 0.0)) - 1.0), x, x >= 0.0 || is_nan(x));
}

fn d_elu(side: f32, y: f32, alpha: f32) -> f32 {
    return select(y + alpha, 1.0, side >= 0.0 && !is_nan(side));
}

fn softsign(x: f32) -> f32 {
    return x / (1.0 + abs(x));
}

fn d_softsign(y: f32) -> f32 {
    return (1.0 - abs(y)) * (1.0 - abs(y));
}

fn softplus(x: f32) -> f32 {
    return select(max(x, 0.0) + log(1.0 + exp(-min(abs(x), 87.0))), x, is_nan(x));
}

fn d_softplus(y: f32) -> f32 {
    return select(1.0 - exp(-min(y, 87.0)), y, is_nan(y));
}
