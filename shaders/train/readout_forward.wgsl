// needs: train/last_step
// features [B, D·H]: each direction's last step out of output [T·B, D·H].

@compute @workgroup_size(64)
fn readout_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    let width = sizes.directions * sizes.hidden;
    for (var i = id.x; i < sizes.batch * width; i += stride) {
        let column = i % width;
        features[i] = output[last_row(i / width, column / sizes.hidden) * width + column];
    }
}
