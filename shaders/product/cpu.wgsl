// C = A·B on a CPU adapter, in the terms of tiled.wgsl. A load costs as much there as 80 products, even where all threads
// want the same value, and an element of a private array at a constant index costs nothing. So a thread holds HELD_K rows of
// 4 columns of B and walks over TILE_M rows of A with them. A longer K takes several walks, which add up in C.
//
// cpu_shuffle.wgsl or cpu_memory.wgsl hands out A: take_row chooses a row, take gives 8 values of it.

const HELD_K = 64u;
const THREADS = TILE_N / 4u;

var<private> held: array<vec4f, HELD_K>; // B(k0 + i, n0 + j·THREADS)
var<private> sum: vec4f;

fn held_row(b_row: u32, n: vec4u) -> vec4f {
    var row = vec4f();
    for (var j = 0u; j < 4u; j++) {
        if n[j] < sizes.n { row[j] = load_b(b_row + n[j] * sizes.b_col); }
    }
    return row;
}

fn add_products(first: u32) {
    let x = take(first);
    for (var i = 0u; i < 8u; i++) {
        sum += x[i] * held[first + i];
    }
}

@compute @workgroup_size(THREADS)
fn cpu(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    // Tiles are counted over x and y together: one dimension ends at 65,535.
    let tile = group.x + group.y * groups.x;
    let tiles_n = (sizes.n + TILE_N - 1u) / TILE_N;
    let m0 = tile / tiles_n * TILE_M;
    let n0 = tile % tiles_n * TILE_N;
    if m0 >= sizes.m { return; }
    let m_end = min(sizes.m, m0 + TILE_M);
    let n = n0 + thread + vec4u(0u, 1u, 2u, 3u) * THREADS;
    let batch = group.z % sizes.batches;
    let split = group.z / sizes.batches;
    let a0 = sizes.a_offset + batch * sizes.a_batch;
    let b0 = sizes.b_offset + batch * sizes.b_batch;
    let c0 = sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split;
    let bias0 = sizes.bias_offset + batch * sizes.bias_batch;
    let k_start = split * sizes.k_per_split;
    let k_end = min(sizes.k, k_start + sizes.k_per_split);
    take_init(thread);

    var start = vec4f();
    for (var j = 0u; j < 4u; j++) {
        if sizes.has_bias == 1u && n[j] < sizes.n { start[j] = load_bias(bias0 + n[j]); }
    }
    var add = sizes.accumulate == 1u;
    // The first walk writes C even where this split has no k left.
    for (var k0 = k_start; k0 == k_start || k0 < k_end; k0 += HELD_K) {
        // Unrolled, this loop would take seconds to compile.
        for (var i = 0u; i < HELD_K; i++) {
            held[i] = vec4f();
            if k0 + i < k_end { held[i] = held_row(b0 + (k0 + i) * sizes.b_row, n); }
        }
        for (var m = m0; m < m_end; m++) {
            take_row(a0 + m * sizes.a_row, k0, k_end);
            sum = start;
            // No loop: nested ones are not unrolled.
            add_products(0u);
            add_products(8u);
            add_products(16u);
            add_products(24u);
            add_products(32u);
            add_products(40u);
            add_products(48u);
            add_products(56u);
            let row = c0 + m * sizes.c_row;
            for (var j = 0u; j < 4u; j++) {
                if n[j] < sizes.n {
                    var value = sum[j];
                    if add { value += load_c(row + n[j]); }
                    store_c(row + n[j], value);
                }
            }
        }
        start = vec4f();
        add = true;
    }
}
