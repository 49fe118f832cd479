// needs: train/last_step
// d_output [T·B, D·H]: d_features [B, D·H] at each direction's last step, 0 elsewhere.

@compute @workgroup_size(64)
fn readout_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    let width = sizes.directions * sizes.hidden;
    for (var i = id.x; i < sizes.seq_len * sizes.batch * width; i += stride) {
        let column = i % width;
        let row = i / width;
        let b = row / sizes.row_b % sizes.batch;
        var value = 0.0;
        if row == last_row(b, column / sizes.hidden) { value = d_features[b * width + column]; }
        d_output[i] = value;
    }
}
