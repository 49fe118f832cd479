// Second stage of the scatter-add: the first row of each token sums the gradients along its chain and writes the token's.

@compute @workgroup_size(64)
fn embedding_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.rows * sizes.features; i += stride) {
        let first = i / sizes.features;
        if links[sizes.rows + first] == 0u { continue; }
        let feature = i % sizes.features;
        var sum = 0.0;
        for (var row = first; row < sizes.rows; row = links[row]) { sum += d_output[row * sizes.features + feature]; }
        d_weight[tokens[first] * sizes.features + feature] = sum;
    }
}
