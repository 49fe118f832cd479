// needs: shared/starts
// Adds what a row's initial h gives the gates, `entered` [D, B, G·H], to the input's part of the step that it enters; the recurrence itself
// starts from 0. input_part holds the steps from sizes.first on, sizes.window_len of them, by ascending time.

@compute @workgroup_size(64)
fn enter_gates(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    for (var row = group.x; row < sizes.directions * sizes.batch; row += groups.x) {
        let direction = row / sizes.batch;
        let b = row % sizes.batch;
        let t = start_of(direction, b, thread);
        let first = select(sizes.first, sizes.seq_len - sizes.first - sizes.window_len, runs_back(direction));
        if t != NO_STEP && t >= first && t < first + sizes.window_len {
            let in_part = select((t - first) * sizes.batch + b, b * sizes.window_len + t - first, sizes.row_t == 1u && sizes.batch > 1u);
            let to = (direction * sizes.window_len * sizes.batch + in_part) * sizes.gate_rows;
            for (var i = thread; i < sizes.gate_rows; i += 64u) { input_part[to + i] += entered[row * sizes.gate_rows + i]; }
        }
    }
}
