// Eight values of A at a time, out of workgroup memory, which its eight threads fill with a row of A.

var<workgroup> row: array<vec4f, HELD_K / 4u>;
var<private> taker: u32;

fn take_init(local_index: u32) {
    taker = local_index;
}

fn value(at: u32, k: u32, k_end: u32) -> f32 {
    if k >= k_end { return 0.0; }
    return load_a(at + k * sizes.a_col);
}

// For the row of A that begins at `at`, take(i) gives the values from k0 + i on, and 0 from k_end on.
fn take_row(at: u32, k0: u32, k_end: u32) {
    workgroupBarrier();
    for (var i = taker; i < HELD_K / 4u; i += THREADS) {
        let k = k0 + i * 4u;
        row[i] = vec4f(value(at, k, k_end), value(at, k + 1u, k_end), value(at, k + 2u, k_end), value(at, k + 3u, k_end));
    }
    workgroupBarrier();
}

fn take(first: u32) -> array<f32, 8> {
    let low = row[first / 4u];
    let high = row[first / 4u + 1u];
    return array<f32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
}
