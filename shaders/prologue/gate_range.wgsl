// needs: shared/largest
// The bits of the largest magnitude, of those that are finite, among the gates' gradients of a layer, to `control`, where
// `previous_states` has left 0: products that take them as f16 scale them by it.

@compute @workgroup_size(64)
fn gate_range(
    @builtin(global_invocation_id) id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let stride = groups.x * 64u;
    var found = 0u;
    for (var i = id.x; i < sizes.fours; i += stride) {
        let four = load4_d_gates(i);
        found = max(found, max(max(magnitude(four.x), magnitude(four.y)), max(magnitude(four.z), magnitude(four.w))));
    }
    leave_largest(thread, found, 6u);
}
