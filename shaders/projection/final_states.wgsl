// needs: shared/starts
// The final states of a layer: h [D, B, P] as it was projected, or the initial one of a row that computed nothing; the others from
// `units` [S, L·D, B, H], whose state 0 is what was projected.

@compute @workgroup_size(64)
fn final_states(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let rows = sizes.directions * sizes.batch;
    let first = sizes.layer * sizes.batch;
    let all_h = sizes.block / sizes.hidden * sizes.proj;
    for (var i = id.x; i < rows * sizes.proj; i += groups.x * 64u) {
        let row = i / sizes.proj;
        var value = projected[i];
        if keeps_start(row / sizes.batch, row % sizes.batch) {
            value = 0.0;
            if sizes.has_initial == 1u { value = initial_h[first * sizes.proj + i]; }
        }
        final_state[first * sizes.proj + i] = value;
    }
    for (var s = 1u; s < sizes.states; s++) {
        for (var i = id.x; i < rows * sizes.hidden; i += groups.x * 64u) {
            let at = first * sizes.hidden + i;
            final_state[all_h + (s - 1u) * sizes.block + at] = units[s * sizes.block + at];
        }
    }
}
