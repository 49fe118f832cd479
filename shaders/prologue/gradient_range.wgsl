// needs: shared/edges shared/floats shared/mask
// Before a persistent backward dispatch that exchanges f16: the bits of the largest magnitude, of those that are finite, among the
// gradients that enter its steps, to `control`, where `clear` has left 0: of its outputs, of the states behind it, and of the gates of the
// step before it, which may be all that there is.

const RANGE = 5u;

var<workgroup> largest: atomic<u32>;

@compute @workgroup_size(64)
fn gradient_range(
    @builtin(global_invocation_id) id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let of_direction = sizes.batch * sizes.hidden;
    let of_step = sizes.directions * of_direction;
    let start = step_index.value * sizes.chunk;
    let end = max(start, min(min(sizes.steps, start + sizes.chunk), sizes.seq_len));
    let stride = groups.x * 64u;
    var found = 0u;
    for (var i = id.x; i < (end - start) * of_step; i += stride) {
        let direction = i % of_step / of_direction;
        let b = i % of_direction / sizes.hidden;
        let step = start + i / of_step;
        let t = select(sizes.seq_len - 1u - step, step, runs_back(direction));
        let link = link_of(direction, t, b);
        if t < length_of(b) && (!is_held(link) || repeats(link)) {
            let at = (row_of(t, b) * sizes.directions + direction) * sizes.hidden + i % sizes.hidden;
            found = max(found, magnitude(load_d_output(at)));
        }
    }
    for (var i = id.x; i < sizes.states * of_step; i += stride) {
        let at = sizes.d_state_at + i / of_step * sizes.block + sizes.layer * of_direction + i % of_step;
        found = max(found, magnitude(state[at]));
    }
    let of_row = sizes.gates * sizes.hidden;
    for (var i = id.x; start > 0u && i < sizes.gates * of_step; i += stride) {
        let direction = i / (sizes.batch * of_row);
        let t = select(sizes.seq_len - start, start - 1u, runs_back(direction));
        let row = row_of(t, i / of_row % sizes.batch);
        found = max(found, magnitude(d_gates[sizes.d_rh + (direction * sizes.rows + row) * of_row + i % of_row]));
    }
    if thread == 0u { atomicStore(&largest, 0u); }
    workgroupBarrier();
    atomicMax(&largest, found);
    workgroupBarrier();
    if thread == 0u { atomicMax(&control[RANGE], atomicLoad(&largest)); }
}
