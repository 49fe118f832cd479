// needs: train/loss_scale
// Gradients divided by the loss scale.

@compute @workgroup_size(64)
fn unscale_gradients(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    let factor = unscale();
    for (var i = id.x; i < sizes.len; i += stride) { gradients[i] *= factor; }
}
