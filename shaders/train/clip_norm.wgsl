// Third stage: the gradients, scaled to the norm.

@compute @workgroup_size(64)
fn clip_norm(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.len; i += stride) { gradients[i] = gradients[i] * norm[1]; }
}
