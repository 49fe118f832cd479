// The cell on every row of a single step, once products over all rows are there: input_part is x·W_ih + b_ih [D, B, G, H],
// state_part h·W_hh likewise (without bias). A cell of two phases makes mid [D, B, H] in phase 1; phase 2 finds its product in
// the last gates of state_part.

@compute @workgroup_size(64)
fn single_step_products_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let total = sizes.directions * sizes.batch * sizes.hidden;
    for (var i = id.x; i < total; i += groups.x * 64u) { run(i % sizes.hidden, i / sizes.hidden); }
}

// `row` counts [D, B].
fn run(unit: u32, row: u32) {
    let b = row % sizes.batch;
    let direction = row / sizes.batch;
    // The reverse direction enters a single step by its end, which no reset cuts.
    let cut = direction + sizes.reverse == 0u && sizes.has_reset == 1u && reset[b] != 0u;
    let at = (sizes.layer * sizes.batch + row) * sizes.hidden + unit;
    let of_direction = direction * sizes.param_stride + unit;
    var wx = Gates();
    var rh = Gates();
    for (var g = 0u; g < GATES; g++) {
        let product = (row * GATES + g) * sizes.hidden + unit;
        wx[g] = input_part[product];
        if (HAS_INITIAL == 1u && !cut) || g >= FIRST_PHASE_GATES { rh[g] = state_part[product]; }
        if sizes.has_bias == 1u { rh[g] += load_params(sizes.bias + of_direction + g * sizes.hidden); }
    }
    var of_unit = Unit();
    for (var u = 0u; u < UNIT_ROWS; u++) { of_unit[u] = load_params(sizes.unit + of_direction + u * sizes.hidden); }
    var prev = State();
    for (var s = 0u; s < STATES; s++) {
        if IN_PLACE == 1u { prev[s] = final_state[s * sizes.block + at]; }
        else if HAS_INITIAL == 1u { prev[s] = initial_state[s * sizes.block + at]; }
    }
    if cut { prev = State(); }

    if PHASE == 1u {
        mid[row * sizes.hidden + unit] = cell_mid(wx, rh, prev, of_unit);
        return;
    }
    let next = cell_forward(wx, rh, prev, of_unit).next;
    store_output((b * sizes.directions + direction) * sizes.hidden + unit, next[0]);
    if sizes.has_final == 1u {
        for (var s = 0u; s < STATES; s++) { final_state[s * sizes.block + at] = next[s]; }
    }
}
