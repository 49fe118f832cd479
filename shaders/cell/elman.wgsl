// Gate h. State h. Saved: the pre-activation, only if KEEPS_INPUT; else the output is all that backward needs.
// Mirrors src/cell/elman.rs, which also generates gate_* and KEEPS_INPUT.

fn cell_forward(wx: Gates, rh: Gates, prev: State, unit: Unit) -> Forward {
    let a = wx[0] + rh[0];
    return Forward(State(gate_value(a)), Saved(a));
}

fn cell_backward(saved: Saved, prev: State, next: State, unit: Unit, d_next: State, d_mid: f32) -> Backward {
    var kept = next[0];
    if KEEPS_INPUT { kept = saved[0]; }
    let d_a = d_next[0] * gate_slope(kept);
    var d_unit = Unit();
    return Backward(Gates(d_a), Gates(d_a), State(0.0), d_unit);
}
