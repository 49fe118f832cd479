// needs: shared/kept_states
// One unit's share of a backward step, once its product with W_hhᵀ is there. Shared by the kernels that walk a sequence; each
// defines `publish(step, direction, b, r, gate_row, value)`, what it does with d_rh besides storing it.
//
// state: initial states, then from `d_state_at` on the running gradient of the states, each [S, L·D, B, H].
// d_gates: d_wx [D, rows, G, H], then d_rh if they differ, then the per-unit gradients [D, rows, UNIT_ROWS, H].
// A cell of one product has phase 0. A cell of two has phase 1 (the state's gradient, then the second phase's gates) and
// phase 2 (the gradient of mid, then the rest). Step seq_len writes the initial states' gradient and nothing else.

fn gate_index(direction: u32, row: u32, gate: u32, unit: u32) -> u32 {
    return ((direction * sizes.rows + row) * GATES + gate) * sizes.hidden + unit;
}

// The reverse direction is walked from its end, step 0, upwards.
fn time_of(step: u32, direction: u32) -> u32 {
    return select(sizes.seq_len - 1u - step, step, runs_back(direction));
}

// The edge over which the gradient of the state after a step arrives.
fn edge_of(step: u32, direction: u32) -> u32 {
    return select(sizes.seq_len - step, step, runs_back(direction));
}

// The step whose gates send that gradient: the one walked just before.
fn time_before(step: u32, direction: u32) -> u32 {
    return select(sizes.seq_len - step, step - 1u, runs_back(direction));
}

// Whether the gates of a step have a gradient.
fn sends(direction: u32, t: u32, b: u32, length: u32) -> bool {
    return t < length && !is_held(link_of(direction, t, b));
}

// What is there before a step's product is: the running gradient, and what forward kept of the step.
struct Before { d_next: State, d_output: f32, flags: u32, saved: Saved, prev: State, next: State, unit: Unit }

// Flags, in one register: forward computed the step; the step walked just before sends something; nothing passes on from there.
const STEP_VALID = 1u;
const STEP_ARRIVES = 2u;
const STEP_IS_CUT = 4u;

fn before(step: u32, direction: u32, b: u32, unit: u32) -> Before {
    var x = kept_of(step, direction, b, unit);
    x.d_next = carried(direction, b, unit);
    return x;
}

fn carried(direction: u32, b: u32, unit: u32) -> State {
    let at = state_index(direction, b, unit);
    var d_next = State();
    for (var s = 0u; s < STATES; s++) { d_next[s] = state[sizes.d_state_at + s * sizes.block + at]; }
    return d_next;
}

fn carry(direction: u32, b: u32, unit: u32, d_next: State) {
    let at = state_index(direction, b, unit);
    var values = d_next;
    for (var s = 0u; s < STATES; s++) { state[sizes.d_state_at + s * sizes.block + at] = values[s]; }
}

// All of it but the running gradient.
fn kept_of(step: u32, direction: u32, b: u32, unit: u32) -> Before {
    return kept_within(step, direction, b, unit, length_of(b));
}

// The same where the row's length is known, for which it would have to wait first.
fn kept_within(step: u32, direction: u32, b: u32, unit: u32, length: u32) -> Before {
    var x = Before();
    if step > 0u {
        x.flags = select(0u, STEP_ARRIVES, sends(direction, time_before(step, direction), b, length));
        x.flags |= select(0u, STEP_IS_CUT, is_cut(edge_of(step, direction), b));
    }
    if step == sizes.seq_len { return x; }
    let t = time_of(step, direction);
    if t >= length { return x; }
    let link = link_of(direction, t, b);
    let valid = !is_held(link);
    x.flags |= select(0u, STEP_VALID, valid);
    if valid || repeats(link) {
        x.d_output = load_d_output(row_of(t, b) * sizes.directions * sizes.hidden + direction * sizes.hidden + unit);
    }
    if !valid { return x; }
    x.saved = saved_at(direction, t, b, unit);
    x.prev = states_before(direction, t, b, unit, length);
    x.next = states_after(direction, t, b, unit);
    for (var i = 0u; i < UNIT_ROWS; i++) {
        x.unit[i] = load_params(sizes.unit + direction * sizes.param_stride + i * sizes.hidden + unit);
    }
    return x;
}

fn store_gates(step: u32, direction: u32, b: u32, r: u32, unit: u32, from_gate: u32, to_gate: u32, d: Backward) {
    let row = row_of(time_of(step, direction), b);
    var d_wx = d.d_wx;
    var d_rh = d.d_rh;
    for (var g = from_gate; g < to_gate; g++) {
        let at = gate_index(direction, row, g, unit);
        // Others wait for it.
        publish(step, direction, b, r, g * sizes.hidden + unit, d_rh[g]);
        d_gates[at] = d_wx[g];
        if SPLIT_GRADIENTS == 1u { d_gates[sizes.d_rh + at] = d_rh[g]; }
    }
}

fn store_units(direction: u32, row: u32, unit: u32, d: Backward) {
    var d_unit = d.d_unit;
    for (var i = 0u; i < UNIT_ROWS; i++) {
        d_gates[sizes.d_unit + ((direction * sizes.rows + row) * UNIT_ROWS + i) * sizes.hidden + unit] = d_unit[i];
    }
}

fn finish(step: u32, phase: u32, direction: u32, b: u32, r: u32, unit: u32, product: f32, x: Before) {
    let d_next = retreat(step, phase, direction, b, r, unit, product, x);
    if step < sizes.seq_len { carry(direction, b, unit, d_next); }
}

// Gives the running gradient behind the phase.
fn retreat(step: u32, phase: u32, direction: u32, b: u32, r: u32, unit: u32, product: f32, x: Before) -> State {
    var d_next = x.d_next;
    if phase != 2u {
        // Nothing arrives at the end, nor from a step that was not computed; 0 times a weight that is NaN would.
        if (x.flags & STEP_ARRIVES) != 0u { d_next[0] += product; }
        if (x.flags & STEP_IS_CUT) != 0u { d_next = State(); }
        if step == sizes.seq_len {
            let at = state_index(direction, b, unit);
            for (var s = 0u; s < STATES; s++) { d_initial_state[s * sizes.block + at] = d_next[s]; }
            return d_next;
        }
        // 0 where the step puts out nothing of its own.
        d_next[0] += x.d_output;
    }
    // A row that didn't compute the step kept its state: nothing for the gates, the gradient passes on.
    var d = Backward();
    d.d_prev = d_next;
    if (x.flags & STEP_VALID) != 0u { d = cell_backward(x.saved, x.prev, x.next, x.unit, d_next, select(0.0, product, phase == 2u)); }
    if phase == 1u {
        store_gates(step, direction, b, r, unit, FIRST_PHASE_GATES, GATES, d);
        return d_next;
    }
    store_gates(step, direction, b, r, unit, 0u, FIRST_PHASE_GATES, d);
    store_units(direction, row_of(time_of(step, direction), b), unit, d);
    return d.d_prev;
}
