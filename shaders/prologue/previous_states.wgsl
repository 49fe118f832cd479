// needs: shared/kept_states
// Second operand of the weight_hh gradient, row by row: the h that entered each step [D, rows, H] and, for a cell of two
// phases, `mid` [D, rows, H] behind it. Zero where a step was not computed. And 0 to where `gate_range` then leaves what it finds.

@compute @workgroup_size(64)
fn previous_states(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    if id.x == 0u { control[6] = 0u; }
    let stride = groups.x * 64u;
    let total = sizes.directions * sizes.rows * sizes.hidden;
    for (var i = id.x; i < total; i += stride) {
        let unit = i % sizes.hidden;
        let row = i / sizes.hidden % sizes.rows;
        let direction = i / sizes.hidden / sizes.rows;
        let t = row / sizes.row_t % sizes.seq_len;
        let b = row / sizes.row_b % sizes.batch;
        var h = 0.0;
        var mid = 0.0;
        let length = mask[b];
        if t < length && !is_held(link_of(direction, t, b)) {
            let prev = states_before(direction, t, b, unit, length);
            h = prev[0];
            if FIRST_PHASE_GATES < GATES { mid = cell_mid_saved(saved_at(direction, t, b, unit), prev); }
        }
        operands[i] = h;
        if FIRST_PHASE_GATES < GATES { operands[total + i] = mid; }
    }
}
