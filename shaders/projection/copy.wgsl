// sizes.count runs of sizes.len numbers each, from src to dst; zeros where sizes.has_src is 0.

@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    for (var i = id.x; i < sizes.count * sizes.len; i += groups.x * 64u) {
        let run = i / sizes.len;
        let at = i % sizes.len;
        var value = 0.0;
        if sizes.has_src == 1u { value = load_src(sizes.src_offset + run * sizes.src_stride + at); }
        dst[sizes.dst_offset + run * sizes.dst_stride + at] = value;
    }
}
