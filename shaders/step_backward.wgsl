// One step of BPTT for all rows and directions: the gradient of the state from the step after, W_hhᵀ·d_rh, then the cell.
//
// A workgroup has UNITS x LANES threads: UNITS hidden units, LANES threads along K (gate rows) for each, ROWS batch rows.
// PHASE 0 is a cell of one product. A cell of two has PHASE 1 (the state's gradient, then the second phase's gates) and
// PHASE 2 (the gradient of `mid`, then the rest). Step seq_len writes the initial states' gradient and nothing else.
// state: initial states, then from `carry` on the running gradient of the states, each [S, L·D, B, H].
// d_rows: d_wx [D, rows, G, H], then d_rh if they differ, then the per-unit gradients [D, rows, UNIT_ROWS, H].

var<workgroup> operand: array<f32, ROWS * TILE_K>;
var<workgroup> sums: array<f32, LANES * ROWS * UNITS>;

fn gate_index(direction: u32, row: u32, gate: u32, unit: u32) -> u32 {
    return ((direction * sizes.rows + row) * GATES + gate) * sizes.hidden + unit;
}

fn store_gates(direction: u32, row: u32, unit: u32, from_gate: u32, to_gate: u32, d: Backward) {
    var d_wx = d.d_wx;
    var d_rh = d.d_rh;
    for (var g = from_gate; g < to_gate; g++) {
        let at = gate_index(direction, row, g, unit);
        d_rows[at] = d_wx[g];
        if SPLIT_GRADIENTS == 1u { d_rows[sizes.d_rh + at] = d_rh[g]; }
    }
}

fn store_units(direction: u32, row: u32, unit: u32, d: Backward) {
    var d_unit = d.d_unit;
    for (var i = 0u; i < UNIT_ROWS; i++) {
        d_rows[sizes.d_unit + ((direction * sizes.rows + row) * UNIT_ROWS + i) * sizes.hidden + unit] = d_unit[i];
    }
}

fn epilogue(step: u32, t: u32, direction: u32, b: u32, unit: u32, cut: bool, product: f32) {
    let at = state_index(direction, b, unit);
    var d_next: State;
    for (var s = 0u; s < STATES; s++) { d_next[s] = state[sizes.carry + s * sizes.block + at]; }
    if PHASE != 2u {
        d_next[0] += product;
        if cut { d_next = State(); }
        if step == sizes.seq_len {
            for (var s = 0u; s < STATES; s++) { d_initial_state[s * sizes.block + at] = d_next[s]; }
            return;
        }
    }
    let row = row_of(t, b);
    let valid = t < marks[b];
    if PHASE != 2u && valid {
        d_next[0] += d_output[row * sizes.directions * sizes.hidden + direction * sizes.hidden + unit];
    }
    // A row past its length holds its state: nothing for the gates, the gradient passes on.
    var d: Backward;
    d.d_prev = d_next;
    if valid {
        var per_unit: Unit;
        for (var i = 0u; i < UNIT_ROWS; i++) {
            per_unit[i] = params[sizes.unit + direction * sizes.param_stride + i * sizes.hidden + unit];
        }
        let saved = saved_at(direction, t, b, unit);
        let prev = states_before(direction, t, b, unit);
        let next = states_after(direction, t, b, unit);
        d = cell_backward(saved, prev, next, per_unit, d_next, select(0.0, product, PHASE == 2u));
    }
    if PHASE == 1u {
        store_gates(direction, row, unit, FIRST_PHASE_GATES, GATES, d);
    } else {
        store_gates(direction, row, unit, 0u, FIRST_PHASE_GATES, d);
        store_units(direction, row, unit, d);
        d_next = d.d_prev;
    }
    for (var s = 0u; s < STATES; s++) { state[sizes.carry + s * sizes.block + at] = d_next[s]; }
}

@compute @workgroup_size(UNITS, LANES)
fn step_backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let step = step_index.value;
    let direction = group.z;
    // The reverse direction is walked from its end, step 0, upwards.
    let t = select(sizes.seq_len - 1u - step, step, direction == 1u);
    // The gradient comes from the step after t in the direction's own order, over this edge.
    let edge = select(sizes.seq_len - step, step, direction == 1u);
    let t_after = select(edge, step - 1u, direction == 1u);
    let lane = local.y;
    let unit = group.x * UNITS + local.x;
    let row0 = group.y * ROWS;
    let weight = sizes.weight + direction * sizes.param_stride + FIRST * sizes.hidden * sizes.hidden;
    let has_product = PHASE == 2u || step > 0u;
    let k_total = select(0u, COUNT * sizes.hidden, has_product);

    var acc: array<f32, ROWS>;
    for (var k0 = 0u; k0 < k_total; k0 += TILE_K) {
        for (var i = lane * UNITS + local.x; i < ROWS * TILE_K; i += LANES * UNITS) {
            let b = row0 + i / TILE_K;
            let k = k0 + i % TILE_K;
            var value = 0.0;
            if b < sizes.batch && k < k_total {
                let row = row_of(select(t_after, t, PHASE == 2u), b);
                value = d_rows[sizes.d_rh + gate_index(direction, row, FIRST, 0u) + k];
            }
            operand[i] = value;
        }
        workgroupBarrier();
        if unit < sizes.hidden {
            let k_end = min(TILE_K, k_total - k0);
            for (var k = lane; k < k_end; k += LANES) {
                let w = params[weight + (k0 + k) * sizes.hidden + unit];
                for (var r = 0u; r < ROWS; r++) { acc[r] += w * operand[r * TILE_K + k]; }
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < ROWS; r++) { sums[(lane * ROWS + r) * UNITS + local.x] = acc[r]; }
    workgroupBarrier();

    for (var r = lane; r < ROWS; r += LANES) {
        let b = row0 + r;
        if unit < sizes.hidden && b < sizes.batch {
            var sum = 0.0;
            for (var l = 0u; l < LANES; l++) { sum += sums[(l * ROWS + r) * UNITS + local.x]; }
            let cut = step > 0u && is_cut(edge, b);
            epilogue(step, t, direction, b, unit, cut, sum);
        }
    }
}
