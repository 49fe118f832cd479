// Gates f, n; f scales rh of n. State h. Saved f, n, rh of n. Mirrors minimal_gated.rs.

fn cell_forward(wx: Gates, rh: Gates, prev: State, unit: Unit) -> Forward {
    let f = sigmoid(wx[0] + rh[0]);
    let n = tanh_sat(wx[1] + f * rh[1]);
    return Forward(State((1.0 - f) * prev[0] + f * n), Saved(f, n, rh[1]));
}

fn cell_backward(saved: Saved, prev: State, next: State, unit: Unit, d_next: State, d_mid: f32) -> Backward {
    let f = saved[0];
    let n = saved[1];
    let rh_n = saved[2];
    let d_n = d_next[0] * f * d_tanh(n);
    let d_f = (d_next[0] * (n - prev[0]) + d_n * rh_n) * d_sigmoid(f);
    return Backward(Gates(d_f, d_n), Gates(d_f, d_n * f), State(d_next[0] * (1.0 - f)), Unit());
}
