// One step of the recurrence for all rows and directions: rh = W_hh·h + b_hh, then the cell as its epilogue.
//
// A workgroup has LANES x UNITS threads: UNITS hidden units, LANES threads along K for each, and makes COUNT gates from
// gate FIRST on of ROWS batch rows. PHASE 0 is a cell of one product; a cell of two has PHASE 1 (W·h, then `mid`) and
// PHASE 2 (W·mid, then the step). The state is h twice (ping, pong by step), then the other states, each [L·D, B, H], then
// for two phases mid [D, B, H] and rh of the first phase [D, B, FIRST_PHASE_GATES, H].

var<workgroup> operand: array<f32, ROWS * TILE_K>;
var<workgroup> sums: array<f32, UNITS * COUNT * ROWS * LANES>;

fn state_index(direction: u32, b: u32, unit: u32) -> u32 {
    return ((sizes.layer + direction) * sizes.batch + b) * sizes.hidden + unit;
}

fn h_index(step: u32, direction: u32, b: u32, unit: u32) -> u32 {
    return (step & 1u) * sizes.block + state_index(direction, b, unit);
}

fn mid_index(direction: u32, b: u32, unit: u32) -> u32 {
    return (STATES + 1u) * sizes.block + (direction * sizes.batch + b) * sizes.hidden + unit;
}

fn rh_index(direction: u32, b: u32, gate: u32, unit: u32) -> u32 {
    let start = (STATES + 1u) * sizes.block + sizes.directions * sizes.batch * sizes.hidden;
    return start + ((direction * sizes.batch + b) * FIRST_PHASE_GATES + gate) * sizes.hidden + unit;
}

// The edge by which the state enters step t; the reverse direction's start at the last step is none.
fn enters_cut(direction: u32, t: u32, b: u32) -> bool {
    return is_cut(t + direction, b);
}

fn epilogue(step: u32, t: u32, direction: u32, b: u32, unit: u32, rh_new: array<f32, COUNT>) {
    let row = row_of(t, b);
    let cut = enters_cut(direction, t, b);
    let valid = t < marks[b];
    var wx: Gates;
    for (var g = 0u; g < GATES; g++) {
        wx[g] = input_part[((direction * sizes.rows + row) * GATES + g) * sizes.hidden + unit];
    }
    var rh: Gates;
    for (var g = 0u; g < COUNT; g++) {
        var value = rh_new[g];
        if sizes.has_bias == 1u { value += params[sizes.bias + direction * sizes.param_stride + (FIRST + g) * sizes.hidden + unit]; }
        rh[FIRST + g] = value;
    }
    var per_unit: Unit;
    for (var i = 0u; i < UNIT_ROWS; i++) {
        per_unit[i] = params[sizes.unit + direction * sizes.param_stride + i * sizes.hidden + unit];
    }
    var held: State;
    held[0] = state[h_index(step, direction, b, unit)];
    for (var s = 1u; s < STATES; s++) {
        held[s] = state[(s + 1u) * sizes.block + state_index(direction, b, unit)];
    }
    var prev = held;
    if cut { prev = State(); }

    if PHASE == 1u {
        state[mid_index(direction, b, unit)] = cell_mid(wx, rh, prev, per_unit);
        for (var g = 0u; g < COUNT; g++) { state[rh_index(direction, b, g, unit)] = rh[g]; }
        return;
    }
    if PHASE == 2u {
        for (var g = 0u; g < FIRST; g++) { rh[g] = state[rh_index(direction, b, g, unit)]; }
    }
    let result = cell_forward(wx, rh, prev, per_unit);
    var next = held;
    var h_out = 0.0;
    if valid {
        next = result.next;
        h_out = next[0];
    }
    state[h_index(step + 1u, direction, b, unit)] = next[0];
    for (var s = 1u; s < STATES; s++) {
        state[(s + 1u) * sizes.block + state_index(direction, b, unit)] = next[s];
    }
    output[row * sizes.directions * sizes.hidden + direction * sizes.hidden + unit] = h_out;
    if sizes.has_reserve == 1u {
        let kept = (direction * sizes.rows + row) * (SAVED + STATES - 1u);
        for (var i = 0u; i < SAVED; i++) { reserve[(kept + i) * sizes.hidden + unit] = result.saved[i]; }
        for (var s = 1u; s < STATES; s++) { reserve[(kept + SAVED + s - 1u) * sizes.hidden + unit] = next[s]; }
    }
    if sizes.has_final == 1u && step + 1u == sizes.seq_len {
        for (var s = 0u; s < STATES; s++) {
            final_state[s * sizes.block + state_index(direction, b, unit)] = next[s];
        }
    }
}

@compute @workgroup_size(LANES, UNITS)
fn step_forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let step = step_index.value;
    let direction = group.z;
    let t = select(step, sizes.seq_len - 1u - step, direction == 1u);
    let lane = local.x;
    let unit = group.x * UNITS + local.y;
    let row0 = group.y * ROWS;
    let weight = sizes.weight + direction * sizes.param_stride;

    var acc: array<f32, COUNT * ROWS>;
    for (var k0 = 0u; k0 < sizes.hidden; k0 += TILE_K) {
        for (var i = local.y * LANES + lane; i < ROWS * TILE_K; i += LANES * UNITS) {
            let b = row0 + i / TILE_K;
            let k = k0 + i % TILE_K;
            var value = 0.0;
            if b < sizes.batch && k < sizes.hidden {
                if PHASE == 2u {
                    value = state[mid_index(direction, b, k)];
                } else if !enters_cut(direction, t, b) {
                    value = state[h_index(step, direction, b, k)];
                }
            }
            operand[i] = value;
        }
        workgroupBarrier();
        if unit < sizes.hidden {
            let k_end = min(TILE_K, sizes.hidden - k0);
            for (var k = lane; k < k_end; k += LANES) {
                for (var g = 0u; g < COUNT; g++) {
                    let w = params[weight + ((FIRST + g) * sizes.hidden + unit) * sizes.hidden + k0 + k];
                    for (var r = 0u; r < ROWS; r++) { acc[g * ROWS + r] += w * operand[r * TILE_K + k]; }
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < COUNT * ROWS; i++) { sums[(local.y * COUNT * ROWS + i) * LANES + lane] = acc[i]; }
    workgroupBarrier();

    for (var r = lane; r < ROWS; r += LANES) {
        let b = row0 + r;
        if unit < sizes.hidden && b < sizes.batch {
            var rh: array<f32, COUNT>;
            for (var g = 0u; g < COUNT; g++) {
                var sum = 0.0;
                for (var l = 0u; l < LANES; l++) { sum += sums[((local.y * COUNT + g) * ROWS + r) * LANES + l]; }
                rh[g] = sum;
            }
            epilogue(step, t, direction, b, unit, rh);
        }
    }
}
