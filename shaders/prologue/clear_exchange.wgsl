// Before every persistent dispatch: no value is there, nobody has arrived, nothing has failed; and a snapshot of the layer's
// states, `copies` blocks from `state_at` on, for the repair to start from.
// control: the grid of the repair (x is 0: none), failed, arrived.

@compute @workgroup_size(64)
fn clear_exchange(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    if id.x == 0u {
        control[0] = 0u;
        control[1] = sizes.repair_y;
        control[2] = sizes.repair_z;
        control[3] = 0u;
        control[4] = 0u;
    }
    // The last four are read by those that have nothing to wait for.
    for (var i = id.x; i < sizes.words; i += stride) { exchange[i] = select(0u, 1u, i + 4u >= sizes.words); }
    for (var i = id.x; i < sizes.copies * sizes.layer_len; i += stride) {
        state[sizes.snapshot + i] = state[sizes.state_at + i / sizes.layer_len * sizes.block + i % sizes.layer_len];
    }
}
