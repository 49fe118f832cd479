// Sums of the columns of A [rows, columns], a stack of `batches` in one dispatch, rows cut into `splits` parts:
// c[c_offset + batch·c_batch + split·c_split + n] = Σ a[a_offset + batch·a_batch + row·columns + n] over the part's rows, and the same
// `twin` elements further on, where that is not 0. A column has LANES threads of a workgroup. group.z = split·batches + batch.

var<workgroup> sums: array<f32, COLUMNS * LANES>;

fn put(at: u32, sum: f32) {
    if sizes.accumulate == 1u { c[at] = c[at] + sum; } else { c[at] = sum; }
}

@compute @workgroup_size(COLUMNS * LANES)
fn column_sum(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3u) {
    let n = group.x * COLUMNS + thread % COLUMNS;
    let lane = thread / COLUMNS;
    let batch = group.z % sizes.batches;
    let split = group.z / sizes.batches;
    let start = split * sizes.rows_per_split;
    let end = min(sizes.rows, start + sizes.rows_per_split);
    let a0 = sizes.a_offset + batch * sizes.a_batch + min(n, sizes.columns - 1u);
    let apart = LANES * sizes.columns;
    var sum = 0.0;
    var row = start + lane;
    // All of eight are asked for before any is waited for.
    for (; row + 7u * LANES < end; row += 8u * LANES) {
        let at = a0 + row * sizes.columns;
        let first = (a[at] + a[at + apart]) + (a[at + 2u * apart] + a[at + 3u * apart]);
        sum += first + ((a[at + 4u * apart] + a[at + 5u * apart]) + (a[at + 6u * apart] + a[at + 7u * apart]));
    }
    for (; row < end; row += LANES) { sum += a[a0 + row * sizes.columns]; }
    if LANES > 1u {
        sums[thread] = sum;
        workgroupBarrier();
        if lane > 0u { return; }
        for (var other = 1u; other < LANES; other++) { sum += sums[other * COLUMNS + thread]; }
    }
    if n >= sizes.columns { return; }
    let to = sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split + n;
    put(to, sum);
    if sizes.twin > 0u { put(to + sizes.twin, sum); }
}
