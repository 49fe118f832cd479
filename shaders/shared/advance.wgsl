// needs: shared/edges shared/holds
// One unit's share of a forward step whose states are at hand, once its products with W_hh are there. Joined with shared/mask or
// shared/call, which tell lengths, cut edges and links.

fn state_index(direction: u32, b: u32, unit: u32) -> u32 {
    return ((sizes.layer + direction) * sizes.batch + b) * sizes.hidden + unit;
}

fn time_of(step: u32, direction: u32) -> u32 {
    return select(step, sizes.seq_len - 1u - step, runs_back(direction));
}

// The edge by which the state enters step t; the reverse direction's start at the last step is none.
fn enters_cut(direction: u32, t: u32, b: u32) -> bool {
    return is_cut(t + u32(runs_back(direction)), b);
}

// What a unit needs of its parameters, the same at every step.
struct Fixed { bias: Gates, unit: Unit }

fn fixed_of(direction: u32, unit: u32) -> Fixed {
    var fixed = Fixed();
    let first = direction * sizes.param_stride + unit;
    if sizes.has_bias == 1u {
        for (var g = 0u; g < GATES; g++) { fixed.bias[g] = load_params(sizes.bias + first + g * sizes.hidden); }
    }
    for (var i = 0u; i < UNIT_ROWS; i++) { fixed.unit[i] = load_params(sizes.unit + first + i * sizes.hidden); }
    return fixed;
}

// Row of input_part, which holds the steps from sizes.first on, sizes.window_len of them, by ascending time.
fn part_row(step: u32, direction: u32, b: u32) -> u32 {
    let first = select(sizes.first, sizes.seq_len - sizes.first - sizes.window_len, runs_back(direction));
    let t = time_of(step, direction) - first;
    let row = select(t * sizes.batch + b, b * sizes.window_len + t, sizes.row_t == 1u && sizes.batch > 1u);
    return direction * sizes.window_len * sizes.batch + row;
}

// What is there before a step's products are: the input's part, the states that the row holds, and its length.
struct Before { wx: Gates, held: State, length: u32 }

fn input_of(step: u32, direction: u32, b: u32, unit: u32) -> Gates {
    let row = part_row(step, direction, b);
    var wx = Gates();
    for (var g = 0u; g < GATES; g++) { wx[g] = input_part[(row * GATES + g) * sizes.hidden + unit]; }
    return wx;
}

// The states that a step starts from.
fn entering(step: u32, direction: u32, b: u32, held: State) -> State {
    if enters_cut(direction, time_of(step, direction), b) { return State(); }
    return held;
}

// Gives the states after the step, `rh` and `prev` being there; output, reserve and the final state go to their buffers.
fn advance(step: u32, direction: u32, b: u32, unit: u32, rh: Gates, prev: State, of_unit: Unit, x: Before) -> State {
    let t = time_of(step, direction);
    let row = row_of(t, b);
    let result = cell_forward(x.wx, rh, prev, of_unit);
    let link = link_of(direction, t, b);
    // A row that doesn't compute the step keeps its state; no edge past its length is cut.
    var next = prev;
    var h_out = 0.0;
    if t < x.length {
        if !is_held(link) { next = result.next; }
        if !is_held(link) || repeats(link) { h_out = next[0]; }
    }
    store_output(row * sizes.directions * sizes.hidden + direction * sizes.hidden + unit, h_out);
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
    return next;
}
