// needs: shared/mask shared/advance
// One unit's share of a forward step, once its products with W_hh are there. Shared by the kernels that walk a sequence.
//
// state is h twice (ping, pong by step), then the other states, each [L·D, B, H], then for a cell of two phases mid [D, B, H]
// and rh of the first phase [D, B, FIRST_PHASE_GATES, H]. A cell of one product has phase 0; a cell of two has phase 1 (W·h,
// then mid) and phase 2 (W·mid, then the step).

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

fn before(step: u32, direction: u32, b: u32, unit: u32, h: f32) -> Before {
    var x = Before(input_of(step, direction, b, unit), State(), length_of(b));
    x.held[0] = h;
    for (var s = 1u; s < STATES; s++) {
        x.held[s] = state[(s + 1u) * sizes.block + state_index(direction, b, unit)];
    }
    return x;
}

// `products` holds W_hh·operand for the gates from `first` on. Gives mid in phase 1, else the row's h after the step; all
// else goes to its buffer.
fn finish(
    step: u32, phase: u32, first: u32, count: u32, direction: u32, b: u32, unit: u32,
    products: Gates, fixed: Fixed, x: Before,
) -> f32 {
    var rh = products;
    var bias = fixed.bias;
    for (var g = first; g < first + count; g++) { rh[g] += bias[g]; }
    let prev = entering(step, direction, b, x.held);
    if phase == 1u {
        for (var g = 0u; g < count; g++) { state[rh_index(direction, b, g, unit)] = rh[g]; }
        return cell_mid(x.wx, rh, prev, fixed.unit);
    }
    if phase == 2u {
        for (var g = 0u; g < first; g++) { rh[g] = state[rh_index(direction, b, g, unit)]; }
    }
    var next = advance(step, direction, b, unit, rh, prev, fixed.unit, x);
    for (var s = 1u; s < STATES; s++) {
        state[(s + 1u) * sizes.block + state_index(direction, b, unit)] = next[s];
    }
    return next[0];
}
