// The loss scale as the guard keeps it: a power of two, so that neither way rounds.

fn loss_scale() -> f32 {
    return bitcast<f32>(state[2]);
}

// One over it, by its exponent.
fn unscale() -> f32 {
    return bitcast<f32>((254u << 23u) - state[2]);
}
