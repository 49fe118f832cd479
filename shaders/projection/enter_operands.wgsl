// needs: shared/starts
// Puts a row's initial h where the operands of weight_hh's gradient [D, rows, P] hold the step that it enters.

@compute @workgroup_size(64)
fn enter_operands(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    for (var row = group.x; row < sizes.directions * sizes.batch; row += groups.x) {
        let direction = row / sizes.batch;
        let b = row % sizes.batch;
        let t = start_of(direction, b, thread);
        if t != NO_STEP {
            let to = (direction * sizes.rows + row_of(t, b)) * sizes.proj;
            let start = (sizes.layer * sizes.batch + row) * sizes.proj;
            for (var i = thread; i < sizes.proj; i += 64u) { operands[to + i] = initial_state[start + i]; }
        }
    }
}
