// needs: shared/edges shared/mask
// What backward reads back of a step: the states before and after it. state starts with the initial states [S, L·D, B, H].

fn state_index(direction: u32, b: u32, unit: u32) -> u32 {
    return ((sizes.layer + direction) * sizes.batch + b) * sizes.hidden + unit;
}

fn kept_index(direction: u32, row: u32, i: u32, unit: u32) -> u32 {
    return ((direction * sizes.rows + row) * (SAVED + STATES - 1u) + i) * sizes.hidden + unit;
}

// The states right after step t, from what forward wrote.
fn states_after(direction: u32, t: u32, b: u32, unit: u32) -> State {
    let row = row_of(t, b);
    var after = State();
    after[0] = load_output(row * sizes.directions * sizes.hidden + direction * sizes.hidden + unit);
    for (var s = 1u; s < STATES; s++) { after[s] = reserve[kept_index(direction, row, SAVED + s - 1u, unit)]; }
    return after;
}

// The states that entered step t, which must have been computed: after the last step before it that was, or the initial ones, or
// zeros where an edge between them is cut. `length` is the row's.
fn states_before(direction: u32, t: u32, b: u32, unit: u32, length: u32) -> State {
    let back = runs_back(direction);
    let link = link_of(direction, t, b);
    if sizes.has_hold != 0u {
        if link == FROM_CUT { return State(); }
        if link >= FROM_STEP { return states_after(direction, link - FROM_STEP, b, unit); }
    } else {
        if is_cut(t + u32(back), b) { return State(); }
        let first = select(t == 0u, t + 1u >= length, back);
        if !first { return states_after(direction, select(t - 1u, t + 1u, back), b, unit); }
    }
    var initial = State();
    for (var s = 0u; s < STATES; s++) { initial[s] = state[s * sizes.block + state_index(direction, b, unit)]; }
    return initial;
}

fn saved_at(direction: u32, t: u32, b: u32, unit: u32) -> Saved {
    var saved = Saved();
    for (var i = 0u; i < SAVED; i++) { saved[i] = reserve[kept_index(direction, row_of(t, b), i, unit)]; }
    return saved;
}
