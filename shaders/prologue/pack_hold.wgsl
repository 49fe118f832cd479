// needs: shared/edges shared/mask
// Brings the held steps into the workspace, once lengths and resets are there: see shared/holds. A workgroup takes a direction of a
// row, 64 steps at a time: what a step leaves is known by the last of all events up to it, a cut edge or a step that is computed.

const THREADS = 64u;

var<workgroup> last: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn pack_hold(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    for (var row = group.x; row < sizes.directions * sizes.batch; row += groups.x) {
        let direction = row / sizes.batch;
        let b = row % sizes.batch;
        // Events in their order: 2·step + 1 of the edge into a step, 2·step + 2 of the step.
        var before = 0u;
        for (var first = 0u; first < sizes.seq_len; first += THREADS) {
            let step = first + thread;
            let back = runs_back(direction);
            let t = select(step, sizes.seq_len - 1u - step, back);
            let there = step < sizes.seq_len;
            var entering = 0u;
            var held = true;
            if there {
                if is_cut(t + u32(back), b) { entering = 2u * step + 1u; }
                held = t >= mask[b] || hold[t * sizes.batch + b] != 0u;
            }
            last[thread] = select(2u * step + 2u, entering, held);
            workgroupBarrier();
            for (var distance = 1u; distance < THREADS; distance *= 2u) {
                let own = last[thread];
                let other = select(0u, last[max(thread, distance) - distance], thread >= distance);
                workgroupBarrier();
                last[thread] = max(own, other);
                workgroupBarrier();
            }
            let event = max(max(before, entering), select(0u, last[max(thread, 1u) - 1u], thread > 0u));
            if there {
                var link = select(FROM_CUT, FROM_START, event == 0u);
                if event > 0u && event % 2u == 0u {
                    let from_step = event / 2u - 1u;
                    link = FROM_STEP + select(from_step, sizes.seq_len - 1u - from_step, back);
                }
                mask[link_index(direction, t, b)] = link | select(0u, HELD, held);
            }
            before = max(before, last[THREADS - 1u]);
            workgroupBarrier();
        }
    }
}
