// Gates i, f, g, o. States h, c. Saved i, f, g, o (kept values). Unit: peepholes of i, o, f.
// Mirrors src/cell/lstm.rs, which also generates gate_*, candidate_*, output_* and the flags.

// Nothing where there are none: 0 times an infinite state would be NaN.
fn peep(unit: Unit, row: u32, value: f32) -> f32 {
    if PEEPHOLES { return unit[min(row, max(UNIT_ROWS, 1u) - 1u)] * value; }
    return 0.0;
}

fn cell_forward(wx: Gates, rh: Gates, prev: State, unit: Unit) -> Forward {
    let a_i = wx[0] + rh[0] + peep(unit, 0u, prev[1]);
    let a_f = wx[1] + rh[1] + peep(unit, 2u, prev[1]);
    let a_g = wx[2] + rh[2];
    let i = gate_value(a_i);
    var f = gate_value(a_f);
    if INPUT_FORGET { f = 1.0 - i; }
    let g = candidate_value(a_g);
    var c = f * prev[1] + i * g;
    if HAS_CELL_CLIP { c = bounded(c, -CELL_CLIP, CELL_CLIP); }
    let a_o = wx[3] + rh[3] + peep(unit, 1u, c);
    let o = gate_value(a_o);
    let kept = Saved(gate_keep(a_i, i), gate_keep(a_f, f), candidate_keep(a_g, g), gate_keep(a_o, o));
    return Forward(State(o * output_value(c), c), kept);
}

fn cell_backward(saved: Saved, prev: State, next: State, unit: Unit, d_next: State, d_mid: f32) -> Backward {
    let i = gate_restore(saved[0]);
    var f = gate_restore(saved[1]);
    if INPUT_FORGET { f = 1.0 - i; }
    let g = candidate_restore(saved[2]);
    let o = gate_restore(saved[3]);
    let c_prev = prev[1];
    let c = next[1];
    let yc = output_value(c);
    let d_o = d_next[0] * yc * gate_slope(saved[3]);
    var dc = d_next[1] + d_next[0] * o * output_derivative(c, yc) + peep(unit, 1u, d_o);
    if HAS_CELL_CLIP && abs(c) >= CELL_CLIP && !is_nan(c) { dc = 0.0; }
    var through_i = g;
    var d_f = dc * c_prev * gate_slope(saved[1]);
    if INPUT_FORGET { through_i = g - c_prev; d_f = 0.0; }
    let d_i = dc * through_i * gate_slope(saved[0]);
    let d_g = dc * i * candidate_slope(saved[2]);
    let d = Gates(d_i, d_f, d_g, d_o);
    var through_peep_f = peep(unit, 2u, d_f);
    var d_peep_f = d_f * c_prev;
    // Nothing, not 0 times what may be a NaN.
    if INPUT_FORGET { through_peep_f = 0.0; d_peep_f = 0.0; }
    let d_prev = State(0.0, dc * f + peep(unit, 0u, d_i) + through_peep_f);
    var d_unit = Unit();
    if PEEPHOLES {
        let d_peepholes = array<f32, 3>(d_i * c_prev, d_o * c, d_peep_f);
        for (var row = 0u; row < UNIT_ROWS; row++) { d_unit[row] = d_peepholes[row]; }
    }
    return Backward(d, d, d_prev, d_unit);
}
