// needs: shared/floats train/loss_scale
// Two f32 of src to a word of dst as f16, with SCALED times the loss scale.

@compute @workgroup_size(64)
fn to_halves(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    var factor = 1.0;
    if SCALED == 1u { factor = loss_scale(); }
    for (var i = id.x; i < (sizes.len + 1u) / 2u; i += stride) {
        var pair = vec2f(src[2u * i], 0.0);
        if 2u * i + 1u < sizes.len { pair.y = src[2u * i + 1u]; }
        dst[i] = halves_of(pair * factor);
    }
}
