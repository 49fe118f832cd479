// Gates r, z, n; n is of the second phase and multiplies mid = r * h (reset before the product). State h.
// Saved r, z, n (kept values). Mirrors Gru with GruReset::Before in src/cell/gru.rs, which also generates gate_* and candidate_*.

fn cell_forward(wx: Gates, rh: Gates, prev: State, unit: Unit) -> Forward {
    let a_r = wx[0] + rh[0];
    let a_z = wx[1] + rh[1];
    let a_n = wx[2] + rh[2];
    let r = gate_value(a_r);
    let z = gate_value(a_z);
    let n = candidate_value(a_n);
    let kept = Saved(gate_keep(a_r, r), gate_keep(a_z, z), candidate_keep(a_n, n));
    return Forward(State((1.0 - z) * n + z * prev[0]), kept);
}

fn cell_mid(wx: Gates, rh: Gates, prev: State, unit: Unit) -> f32 {
    let r = gate_value(wx[0] + rh[0]);
    return r * prev[0];
}

fn cell_mid_saved(saved: Saved, prev: State) -> f32 {
    let r = gate_restore(saved[0]);
    return r * prev[0];
}

fn cell_backward(saved: Saved, prev: State, next: State, unit: Unit, d_next: State, d_mid: f32) -> Backward {
    let r = gate_restore(saved[0]);
    let z = gate_restore(saved[1]);
    let n = candidate_restore(saved[2]);
    let d_n = d_next[0] * (1.0 - z) * candidate_slope(saved[2]);
    let d_z = d_next[0] * (prev[0] - n) * gate_slope(saved[1]);
    let d_r = d_mid * prev[0] * gate_slope(saved[0]);
    let d = Gates(d_r, d_z, d_n);
    var d_unit = Unit();
    return Backward(d, d, State(d_next[0] * z + d_mid * r), d_unit);
}
