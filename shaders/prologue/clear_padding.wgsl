// Zeroes the rows of dst past their length: a product's 0 there is NaN where a weight is not finite.

@compute @workgroup_size(64)
fn clear_padding(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.rows * sizes.columns; i += stride) {
        let row = i / sizes.columns;
        let t = row / sizes.row_t % sizes.seq_len;
        if t >= marks[row / sizes.row_b % sizes.batch] { store_dst(i, 0.0); }
    }
}
