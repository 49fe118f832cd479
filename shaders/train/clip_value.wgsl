// needs: shared/floats
// Each gradient brought into ±sizes.most.

@compute @workgroup_size(64)
fn clip_value(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    let most = bitcast<f32>(sizes.most);
    for (var i = id.x; i < sizes.len; i += stride) { gradients[i] = bounded(gradients[i], -most, most); }
}
