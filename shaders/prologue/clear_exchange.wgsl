// Before every persistent dispatch that nothing else prepares: clears, and takes a snapshot of the layer's states, `copies` blocks from
// `state_at` on, for the repair to start from.
// needs: shared/clear

@compute @workgroup_size(64)
fn clear_exchange(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    clear(id.x, stride);
    for (var i = id.x; i < sizes.copies * sizes.layer_len; i += stride) {
        state[sizes.snapshot + i] = state[sizes.state_at + i / sizes.layer_len * sizes.block + i % sizes.layer_len];
    }
}
