// One unit's share of a forward step, once its products with W_hh are there. Shared by the kernels that walk a sequence.
//
// state is h twice (ping, pong by step), then the other states, each [L·D, B, H], then for a cell of two phases mid [D, B, H]
// and rh of the first phase [D, B, FIRST_PHASE_GATES, H]. A cell of one product has phase 0; a cell of two has phase 1 (W·h,
// then mid) and phase 2 (W·mid, then the step).

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

fn time_of(step: u32, direction: u32) -> u32 {
    return select(step, sizes.seq_len - 1u - step, direction == 1u);
}

// The edge by which the state enters step t; the reverse direction's start at the last step is none.
fn enters_cut(direction: u32, t: u32, b: u32) -> bool {
    return is_cut(t + direction, b);
}

// `products` holds W_hh·operand for the gates from `first` on, `h` what the row held before the step. Gives mid in phase 1,
// else the row's h after the step; all else goes to its buffer.
fn finish(step: u32, phase: u32, first: u32, count: u32, direction: u32, b: u32, unit: u32, products: Gates, h: f32) -> f32 {
    let t = time_of(step, direction);
    let row = row_of(t, b);
    var rh = products;
    if sizes.has_bias == 1u {
        let bias = sizes.bias + direction * sizes.param_stride + unit;
        for (var g = first; g < first + count; g++) { rh[g] += params[bias + g * sizes.hidden]; }
    }
    var wx: Gates;
    for (var g = 0u; g < GATES; g++) {
        wx[g] = input_part[((direction * sizes.rows + row) * GATES + g) * sizes.hidden + unit];
    }
    var per_unit: Unit;
    for (var i = 0u; i < UNIT_ROWS; i++) {
        per_unit[i] = params[sizes.unit + direction * sizes.param_stride + i * sizes.hidden + unit];
    }
    var held: State;
    held[0] = h;
    for (var s = 1u; s < STATES; s++) {
        held[s] = state[(s + 1u) * sizes.block + state_index(direction, b, unit)];
    }
    var prev = held;
    if enters_cut(direction, t, b) { prev = State(); }

    if phase == 1u {
        for (var g = 0u; g < count; g++) { state[rh_index(direction, b, g, unit)] = rh[g]; }
        return cell_mid(wx, rh, prev, per_unit);
    }
    if phase == 2u {
        for (var g = 0u; g < first; g++) { rh[g] = state[rh_index(direction, b, g, unit)]; }
    }
    let result = cell_forward(wx, rh, prev, per_unit);
    var next = held;
    var h_out = 0.0;
    if t < marks[b] {
        next = result.next;
        h_out = next[0];
    }
    for (var s = 1u; s < STATES; s++) {
        state[(s + 1u) * sizes.block + state_index(direction, b, unit)] = next[s];
    }
    output[row * sizes.directions * sizes.hidden + direction * sizes.hidden + unit] = h_out;
    if sizes.has_reserve == 1u {
        let kept = (direction * sizes.rows + row) * (SAVED + STATES - 1u);
        var saved = result.saved;
        for (var i = 0u; i < SAVED; i++) { reserve[(kept + i) * sizes.hidden + unit] = saved[i]; }
        for (var s = 1u; s < STATES; s++) { reserve[(kept + SAVED + s - 1u) * sizes.hidden + unit] = next[s]; }
    }
    if sizes.has_final == 1u && step + 1u == sizes.seq_len {
        for (var s = 0u; s < STATES; s++) {
            final_state[s * sizes.block + state_index(direction, b, unit)] = next[s];
        }
    }
    return next[0];
}
