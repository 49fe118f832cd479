// needs: shared/floats
// Two f32 of src to a word of dst, where no kernel can write an f16 alone.

@compute @workgroup_size(64)
fn pack_halves(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < (sizes.len + 1u) / 2u; i += stride) {
        var pair = vec2f(src[2u * i], 0.0);
        if 2u * i + 1u < sizes.len { pair.y = src[2u * i + 1u]; }
        dst[i] = halves_of(pair);
    }
}
