// output[r, e] = weight[tokens[r], e]; zeros for a token that is not below sizes.vocabulary.

@compute @workgroup_size(64)
fn embedding_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.rows * sizes.features; i += stride) {
        let token = tokens[i / sizes.features];
        var value = 0.0;
        if token < sizes.vocabulary { value = weight[token * sizes.features + i % sizes.features]; }
        output[i] = value;
    }
}
