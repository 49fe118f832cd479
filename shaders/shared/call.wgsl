// Lengths of rows, cut edges and initial states, as the call gives them; a call with held steps is not taken this way.

fn length_of(b: u32) -> u32 {
    if sizes.has_lengths == 1u { return min(sizes.seq_len, lengths[b]); }
    return sizes.seq_len;
}

// A reset past the row's length cuts nothing.
fn is_cut(edge: u32, b: u32) -> bool {
    return sizes.has_reset == 1u && edge < length_of(b) && reset[edge * sizes.batch + b] != 0u;
}

fn link_of(direction: u32, t: u32, b: u32) -> u32 {
    return 0u;
}

fn initial_of(direction: u32, b: u32, unit: u32) -> State {
    var initial = State();
    if sizes.has_initial == 1u {
        for (var s = 0u; s < STATES; s++) { initial[s] = initial_state[s * sizes.block + state_index(direction, b, unit)]; }
    }
    return initial;
}
