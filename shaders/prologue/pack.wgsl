// First dispatch of every encode: brings the small, optional buffers into the workspace.
//
// marks: lengths [B], then, if given, reset [T, B]. state: initial states, zeros if not given; then, for backward, the
// gradients of the final states. With dropout the current key goes to the reserve's header, and the call is counted up.

@compute @workgroup_size(64)
fn pack(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.batch; i += stride) {
        var length = sizes.seq_len;
        if sizes.has_lengths == 1u { length = min(length, lengths[i]); }
        marks[i] = length;
    }
    if sizes.has_reset == 1u {
        for (var i = id.x; i < sizes.seq_len * sizes.batch; i += stride) {
            marks[sizes.batch + i] = reset[i];
        }
    }
    for (var i = id.x; i < sizes.states * sizes.block; i += stride) {
        // Forward keeps h twice, so what follows the first h lies one block further on.
        let gap = select(0u, sizes.state_gap, i >= sizes.block);
        // Where h is projected the caller's is no state of the recurrence.
        let given = sizes.projected == 0u || i >= sizes.block;
        let at = select(i - sizes.block + sizes.projected, i, sizes.projected == 0u);
        var value = 0.0;
        if given && sizes.has_initial == 1u { value = initial_state[at]; }
        state[i + gap] = value;
        if sizes.carry != 0u {
            var d_value = 0.0;
            if given && sizes.has_d_final == 1u { d_value = d_final_state[at]; }
            state[sizes.carry + i] = d_value;
        }
    }
    if sizes.has_dropout == 1u && id.x == 0u {
        for (var i = 0u; i < 4u; i++) { header[i] = dropout_state[i]; }
        dropout_state[2] = dropout_state[2] + 1u;
    }
}
