// needs: train/loss_scale
// The f16 of src as f32, with SCALED divided by the loss scale.

@compute @workgroup_size(64)
fn from_halves(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    var factor = 1.0;
    if SCALED == 1u { factor = unscale(); }
    for (var i = id.x; i < sizes.len; i += stride) { dst[i] = load_src(i) * factor; }
}
