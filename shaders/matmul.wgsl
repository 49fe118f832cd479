// C = A·B (+ bias), a stack of `batches` products in one dispatch, K cut into `splits` parts.
//
// A(m,k) = a[a_offset + batch·a_batch + m·a_row + k·a_col], B(k,n) likewise with rows k and columns n,
// C(m,n) = c[c_offset + batch·c_batch + split·c_split + m·c_row + n]; group.z = split·batches + batch.
// A workgroup makes a TILE_M x TILE_N tile of C, a thread 4x4 of it, from tiles of A and B in workgroup memory.
// The direction of the loads follows the contiguous index: A_ALONG_K, B_ALONG_N.

const THREADS_M = TILE_M / 4u;
const THREADS_N = TILE_N / 4u;
const THREADS = THREADS_M * THREADS_N;

var<workgroup> a_tile: array<f32, TILE_K * TILE_M>; // [k][m]
var<workgroup> b_tile: array<f32, TILE_K * TILE_N>; // [k][n]

@compute @workgroup_size(THREADS)
fn matmul(
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
    let batch = group.z % sizes.batches;
    let split = group.z / sizes.batches;
    let a0 = sizes.a_offset + batch * sizes.a_batch;
    let b0 = sizes.b_offset + batch * sizes.b_batch;
    let k_start = split * sizes.k_per_split;
    let k_end = min(sizes.k, k_start + sizes.k_per_split);
    let tm = thread / THREADS_N * 4u;
    let tn = thread % THREADS_N * 4u;

    var acc: array<vec4f, 4>;
    for (var k0 = k_start; k0 < k_end; k0 += TILE_K) {
        for (var i = thread; i < TILE_K * TILE_M; i += THREADS) {
            let k = select(i / TILE_M, i % TILE_K, A_ALONG_K == 1u);
            let m = select(i % TILE_M, i / TILE_K, A_ALONG_K == 1u);
            var value = 0.0;
            if k0 + k < k_end && m0 + m < sizes.m {
                value = load_a(a0 + (m0 + m) * sizes.a_row + (k0 + k) * sizes.a_col);
            }
            a_tile[k * TILE_M + m] = value;
        }
        for (var i = thread; i < TILE_K * TILE_N; i += THREADS) {
            let k = select(i % TILE_K, i / TILE_N, B_ALONG_N == 1u);
            let n = select(i / TILE_K, i % TILE_N, B_ALONG_N == 1u);
            var value = 0.0;
            if k0 + k < k_end && n0 + n < sizes.n {
                value = load_b(b0 + (k0 + k) * sizes.b_row + (n0 + n) * sizes.b_col);
            }
            b_tile[k * TILE_N + n] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < TILE_K; k++) {
            let ai = k * TILE_M + tm;
            let bi = k * TILE_N + tn;
            let row = vec4f(b_tile[bi], b_tile[bi + 1u], b_tile[bi + 2u], b_tile[bi + 3u]);
            acc[0] += a_tile[ai] * row;
            acc[1] += a_tile[ai + 1u] * row;
            acc[2] += a_tile[ai + 2u] * row;
            acc[3] += a_tile[ai + 3u] * row;
        }
        workgroupBarrier();
    }

    let c0 = sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split;
    for (var i = 0u; i < 4u; i++) {
        let m = m0 + tm + i;
        for (var j = 0u; j < 4u; j++) {
            let n = n0 + tn + j;
            if m < sizes.m && n < sizes.n {
                var value = acc[i][j];
                if sizes.has_bias == 1u { value += load_bias(sizes.bias_offset + batch * sizes.bias_batch + n); }
                let at = c0 + m * sizes.c_row + n;
                if sizes.accumulate == 1u { value += load_c(at); }
                store_c(at, value);
            }
        }
    }
}
