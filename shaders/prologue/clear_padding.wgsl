// needs: shared/links
// Zeroes the rows of dst past their length and where they are held: a product's 0 there is NaN where a weight is not finite.

@compute @workgroup_size(64)
fn clear_padding(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var i = id.x; i < sizes.rows * sizes.columns; i += stride) {
        let row = i / sizes.columns;
        let t = row / sizes.row_t % sizes.seq_len;
        let b = row / sizes.row_b % sizes.batch;
        if t >= mask[b] || is_held(link_of(0u, t, b)) { store_dst(i, 0.0); }
    }
}
