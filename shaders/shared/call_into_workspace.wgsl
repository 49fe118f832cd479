// Brings the small, optional buffers of a call into the workspace, by threads `first`, `first + stride` and so on.
//
// mask: lengths [B], then, if given, reset [T, B]. state: initial states, zeros if not given; then, for backward, the
// gradients of the final states. With dropout the current key goes to the reserve's header, and the call is counted up.

fn call_into_workspace(first: u32, stride: u32) {
    for (var i = first; i < sizes.batch; i += stride) {
        var length = sizes.seq_len;
        if sizes.has_lengths == 1u { length = min(length, lengths[i]); }
        mask[i] = length;
    }
    if sizes.has_reset == 1u {
        for (var i = first; i < sizes.seq_len * sizes.batch; i += stride) {
            mask[sizes.batch + i] = reset[i];
        }
    }
    for (var i = first; i < sizes.states * sizes.block; i += stride) {
        // Forward keeps h twice, so what follows the first h lies one block further on.
        let gap = select(0u, sizes.state_gap, i >= sizes.block);
        // Where h is projected the caller's is no state of the recurrence.
        let given = sizes.projected == 0u || i >= sizes.block;
        let at = select(i - sizes.block + sizes.projected, i, sizes.projected == 0u);
        var value = 0.0;
        if given && sizes.has_initial == 1u { value = initial_state[at]; }
        state[i + gap] = value;
        if sizes.d_state_at != 0u {
            var d_value = 0.0;
            if given && sizes.has_d_final == 1u { d_value = d_final_state[at]; }
            state[sizes.d_state_at + i] = d_value;
            value = d_value;
        }
        // The layer that runs first: what its repair would start from. Of h's two blocks forward, the second is written before it is read.
        let of_layer = i % sizes.block - sizes.layer_at;
        if sizes.snapshot != 0u && of_layer < sizes.layer_len {
            state[sizes.snapshot + (i + gap) / sizes.block * sizes.layer_len + of_layer] = value;
        }
    }
    if sizes.has_dropout == 1u && first == 0u {
        for (var i = 0u; i < 4u; i++) { header[i] = dropout_state[i]; }
        dropout_state[2] = dropout_state[2] + 1u;
    }
}
