// needs: shared/starts
// The gradients of a layer's initial states: of h what the gates of the step that it enters send, `sent` [D, rows, P], or what comes from
// the final one of a row that computed nothing; the others from `units` [S, L·D, B, H].

@compute @workgroup_size(64)
fn initial_gradients(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = sizes.layer * sizes.batch;
    let all_h = sizes.block / sizes.hidden * sizes.proj;
    for (var row = group.x; row < sizes.directions * sizes.batch; row += groups.x) {
        let direction = row / sizes.batch;
        let b = row % sizes.batch;
        let t = start_of(direction, b, thread);
        for (var i = thread; i < sizes.proj; i += 64u) {
            var value = 0.0;
            if t != NO_STEP {
                value = sent[(direction * sizes.rows + row_of(t, b)) * sizes.proj + i];
            } else if sizes.has_d_final == 1u && keeps_start(direction, b) {
                value = d_final_h[(first + row) * sizes.proj + i];
            }
            d_initial_state[(first + row) * sizes.proj + i] = value;
        }
        for (var s = 1u; s < sizes.states; s++) {
            for (var i = thread; i < sizes.hidden; i += 64u) {
                let at = (first + row) * sizes.hidden + i;
                d_initial_state[all_h + (s - 1u) * sizes.block + at] = units[s * sizes.block + at];
            }
        }
    }
}
