// needs: shared/edges shared/largest shared/mask
// Before a persistent backward dispatch that exchanges f16: the bits of the largest magnitude, of those that are finite, among the
// gradients that enter its steps, to `control`, where `clear` has left 0: of its outputs, of the states behind it, and of the gates of the
// step before it, which may be all that there is.

const RANGE = 5u;

@compute @workgroup_size(64)
fn gradient_range(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let rows = sizes.directions * sizes.batch;
    let start = step_index.value * sizes.chunk;
    let end = max(start, min(min(sizes.steps, start + sizes.chunk), sizes.seq_len));
    var found = 0u;
    // A workgroup takes a whole row of a step and direction.
    for (var i = group.x; i < (end - start) * rows; i += groups.x) {
        let direction = i % rows / sizes.batch;
        let b = i % sizes.batch;
        let step = start + i / rows;
        let t = select(sizes.seq_len - 1u - step, step, runs_back(direction));
        let link = link_of(direction, t, b);
        if t < length_of(b) && (!is_held(link) || repeats(link)) {
            let at = (row_of(t, b) * sizes.directions + direction) * sizes.hidden;
            for (var unit = thread; unit < sizes.hidden; unit += 64u) { found = max(found, magnitude(load_d_output(at + unit))); }
        }
    }
    for (var i = group.x; i < sizes.states * rows; i += groups.x) {
        let at = sizes.d_state_at + i / rows * sizes.block + (sizes.layer * sizes.batch + i % rows) * sizes.hidden;
        for (var unit = thread; unit < sizes.hidden; unit += 64u) { found = max(found, magnitude(state[at + unit])); }
    }
    let of_row = sizes.gates * sizes.hidden;
    for (var i = group.x; start > 0u && i < rows; i += groups.x) {
        let direction = i / sizes.batch;
        let t = select(sizes.seq_len - start, start - 1u, runs_back(direction));
        let at = sizes.d_rh + (direction * sizes.rows + row_of(t, i % sizes.batch)) * of_row;
        for (var gate = thread; gate < of_row; gate += 64u) { found = max(found, magnitude(d_gates[at + gate])); }
    }
    leave_largest(thread, found, RANGE);
}
