// needs: train/total
// First stage of the norm: partial[group] = the group's share of Σ gradients².

@compute @workgroup_size(256)
fn squared_sums(
    @builtin(global_invocation_id) id: vec3u,
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let stride = groups.x * 256u;
    var sum = 0.0;
    for (var i = id.x; i < sizes.len; i += stride) { sum += gradients[i] * gradients[i]; }
    sum = total(thread, sum);
    if thread == 0u { partial[group.x] = sum; }
}
