// needs: shared/links
// dst = src with dropout applied and rows zeroed past their length and where they are held. Mirrors src/network/dropout.rs.
// header: seed (low, high), call.

fn pcg4d(seed: vec4u) -> vec4u {
    var v = seed * 1664525u + 1013904223u;
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    v ^= v >> vec4u(16u);
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    return v;
}

@compute @workgroup_size(64)
fn prepare(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.rows * sizes.columns; i += stride) {
        let row = i / sizes.columns;
        // (t, b) of the row, whichever of the two comes first.
        let t = row / sizes.row_t % sizes.seq_len;
        let b = row / sizes.row_b % sizes.batch;
        var value = 0.0;
        if t < mask[b] && !is_held(link_of(0u, t, b)) { value = load_src(i); }
        if sizes.has_dropout == 1u {
            let index = (t * sizes.batch + b) * sizes.columns + i % sizes.columns;
            let hash = pcg4d(vec4u(index, header[0], header[1], header[2] ^ sizes.layer_key));
            // A product, so that a NaN that is dropped stays one, as in PyTorch.
            value *= select(bitcast<f32>(sizes.scale), 0.0, hash.x < sizes.threshold);
        }
        store_dst(i, value);
    }
}
