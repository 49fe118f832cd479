// Gates g, n. State h. Saved: a (the pre-activation of g), n.
// Mirrors src/cell/binary_gate.rs.

fn heaviside(a: f32) -> f32 {
    return select(select(0.0, 1.0, a > 0.0), a, is_nan(a));
}

fn cell_forward(wx: Gates, rh: Gates, prev: State, unit: Unit) -> Forward {
    let a = wx[0] + rh[0];
    let g = heaviside(a);
    let n = tanh_sat(wx[1] + rh[1]);
    return Forward(State(g * n + (1.0 - g) * prev[0]), Saved(a, n));
}

fn cell_backward(saved: Saved, prev: State, next: State, unit: Unit, d_next: State, d_mid: f32) -> Backward {
    let a = saved[0];
    let n = saved[1];
    let g = heaviside(a);
    let y = sigmoid(a);
    let d_a = d_next[0] * (n - prev[0]) * d_sigmoid(y);
    let d_n = d_next[0] * g * d_tanh(n);
    let d = Gates(d_a, d_n);
    var d_unit = Unit();
    return Backward(d, d, State(d_next[0] * (1.0 - g)), d_unit);
}
