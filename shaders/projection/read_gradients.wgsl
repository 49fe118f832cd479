// needs: shared/links
// The gradients of a layer's output [rows, D·P] where the output depends on anything, else 0: what stands there may be NaN.

@compute @workgroup_size(64)
fn read_gradients(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let columns = sizes.directions * sizes.proj;
    for (var i = id.x; i < sizes.rows * columns; i += groups.x * 64u) {
        let row = i / columns;
        let t = row / sizes.row_t % sizes.seq_len;
        let b = row / sizes.row_b % sizes.batch;
        var value = 0.0;
        if t < mask[b] {
            let link = link_of(i % columns / sizes.proj, t, b);
            if !is_held(link) || repeats(link) { value = d_output[i]; }
        }
        dst[i] = value;
    }
}
