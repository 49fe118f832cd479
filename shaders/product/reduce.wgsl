// Second stage of split sums, in fixed order: dst[offset + i] (+)= Σ over splits of partial[split·len + i].

@compute @workgroup_size(64)
fn reduce(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.len; i += stride) {
        var sum = 0.0;
        for (var split = 0u; split < sizes.splits; split++) {
            sum += partial[split * sizes.len + i];
        }
        if sizes.accumulate == 1u { sum += dst[sizes.offset + i]; }
        dst[sizes.offset + i] = sum;
    }
}
