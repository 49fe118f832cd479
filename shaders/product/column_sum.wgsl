// Sums of the columns of A [rows, columns], a stack of `batches` in one dispatch, rows cut into `splits` parts:
// c[c_offset + batch·c_batch + split·c_split + n] = Σ a[a_offset + batch·a_batch + row·columns + n] over the part's rows.
// group.z = split·batches + batch.

@compute @workgroup_size(64)
fn column_sum(@builtin(global_invocation_id) id: vec3u, @builtin(workgroup_id) group: vec3u) {
    let n = id.x;
    if n >= sizes.columns { return; }
    let batch = group.z % sizes.batches;
    let split = group.z / sizes.batches;
    let start = split * sizes.rows_per_split;
    let end = min(sizes.rows, start + sizes.rows_per_split);
    let a0 = sizes.a_offset + batch * sizes.a_batch + n;
    var sum = 0.0;
    for (var row = start; row < end; row++) {
        sum += a[a0 + row * sizes.columns];
    }
    c[sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split + n] = sum;
}
