// Activations and their derivatives. A derivative takes the output y where it follows from it; `side` is the output or
// the input, whichever tells on which side of the kink the unit is.

// exp overflows past 88.7, and WGSL does not promise infinities.
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-clamp(x, -87.0, 87.0)));
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
    return select(y, -y, x < 0.0);
}

fn d_tanh(y: f32) -> f32 {
    return 1.0 - y * y;
}

fn relu(x: f32) -> f32 {
    return max(x, 0.0);
}

fn d_relu(side: f32) -> f32 {
    return select(0.0, 1.0, side > 0.0);
}

fn leaky_relu(x: f32, alpha: f32) -> f32 {
    return select(alpha * x, x, x >= 0.0);
}

fn d_leaky_relu(side: f32, alpha: f32) -> f32 {
    return select(alpha, 1.0, side >= 0.0);
}

fn thresholded_relu(x: f32, alpha: f32) -> f32 {
    return select(x, 0.0, x < alpha);
}

fn d_thresholded_relu(side: f32, alpha: f32) -> f32 {
    return select(0.0, 1.0, side >= alpha);
}

fn d_hard_sigmoid(y: f32, alpha: f32) -> f32 {
    return select(0.0, alpha, y > 0.0 && y < 1.0);
}

fn elu(x: f32, alpha: f32) -> f32 {
    return select(alpha * (exp(min(x, 0.0)) - 1.0), x, x >= 0.0);
}

fn d_elu(side: f32, y: f32, alpha: f32) -> f32 {
    return select(y + alpha, 1.0, side >= 0.0);
}

fn softsign(x: f32) -> f32 {
    return x / (1.0 + abs(x));
}

fn d_softsign(y: f32) -> f32 {
    return (1.0 - abs(y)) * (1.0 - abs(y));
}

fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log(1.0 + exp(-min(abs(x), 87.0)));
}

fn d_softplus(y: f32) -> f32 {
    return 1.0 - exp(-min(y, 87.0));
}
