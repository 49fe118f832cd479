// The product of tiled.wgsl, in its terms, by cooperative matrices: A and B are f16, products are added up in f32.
//
// Each subgroup of 32 threads makes PART_M x PART_N of the workgroup's tile of C in matrices of SIZE x SIZE. Tiles of A and B lie in
// workgroup memory as they do in storage, rows along the contiguous index. While one pair of
// tiles is multiplied, the next is on its way from memory.
//
// Nothing but loads, products and stores can be done with such matrices. So the sums begin with the bias, of which c_part holds
// SIZE equal rows, and where an edge, C of f16 or what is added to forbid that the sums go straight to C, they go through c_part.
//
// Generated with this: fetch_a, fetch_b and keep; for each marked line the same for every matrix, or for every unit, the four numbers
// that a thread fetches at a time.

const THREADS = SUBGROUPS * 32u;
const ELEMENTS = SIZE * SIZE;
const BAND = 8u;

var<workgroup> c_part: array<f32, C_PART>;

// Writes the matrix of each subgroup that lies `row` and `column` into its part of the tile that begins at m0 and n0.
fn put(thread: u32, c0: u32, m0: u32, n0: u32, row: u32, column: u32) {
    for (var i = thread; i < SUBGROUPS * ELEMENTS; i += THREADS) {
        let part = i / ELEMENTS;
        let m = m0 + part / PARTS_N * PART_M + row + i % ELEMENTS / SIZE;
        let n = n0 + part % PARTS_N * PART_N + column + i % SIZE;
        if m < sizes.m && n < sizes.n {
            let at = c0 + m * sizes.c_row + n;
            if sizes.accumulate == 1u { store_c(at, c_part[i] + load_c(at)); } else { store_c(at, c_part[i]); }
        }
    }
}

@compute @workgroup_size(THREADS)
fn cooperative(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup_id: u32,
) {
    // Tiles are counted over x and y together: one dimension ends at 65,535.
    let tile = group.x + group.y * groups.x;
    let tiles_m = (sizes.m + TILE_M - 1u) / TILE_M;
    let tiles_n = (sizes.n + TILE_N - 1u) / TILE_N;
    if tile >= tiles_m * tiles_n { return; }
    let band = tile / (BAND * tiles_n) * BAND;
    let height = min(BAND, tiles_m - band);
    let in_band = tile - band * tiles_n;
    let m0 = (band + in_band % height) * TILE_M;
    let n0 = in_band / height * TILE_N;
    let batch = group.z % sizes.batches;
    let split = group.z / sizes.batches;
    let a0 = sizes.a_offset + batch * sizes.a_batch;
    let b0 = sizes.b_offset + batch * sizes.b_batch;
    let c0 = sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split;
    let bias0 = sizes.bias_offset + batch * sizes.bias_batch;
    let k_start = split * sizes.k_per_split;
    let k_end = max(k_start, min(sizes.k, k_start + sizes.k_per_split));
    let a_stride = select(sizes.a_col, sizes.a_row, A_ALONG_K == 1u);
    let b_stride = select(sizes.b_row, sizes.b_col, B_ALONG_K == 1u);
    // Where a split is empty, the first loads take what the last split has.
    let k_first = select(k_start, min(k_start, sizes.k - TILE_K), WHOLE_K == 1u);
    // All of them, wherever there are as many.
    let subgroup = subgroup_id % SUBGROUPS;
    let row = subgroup / PARTS_N * PART_M;
    let column = subgroup % PARTS_N * PART_N;

    // for every unit that the thread fetches of a tile: its place in memory and in the tile
    // for every unit: next = fetch, the first
    // for every unit: tile = next, the first
    // for every matrix: var sum = coop_mat<f32, C>();
    if sizes.has_bias == 1u {
        for (var i = thread; i < SIZE * TILE_N; i += THREADS) {
            c_part[i] = load_bias(bias0 + min(n0 + i % TILE_N, sizes.n - 1u));
        }
        workgroupBarrier();
        // for every matrix: sum = coopLoadT(c_part);
    }
    workgroupBarrier();
    for (var k0 = k_start; k0 < k_end; k0 += TILE_K) {
        let k1 = k0 + TILE_K;
        // for every unit: next = fetch
        // for every matrix, SIZE k after SIZE k: sum = coopMultiplyAdd(a, b, sum);
        // for every unit: tile = next
    }
    // for every matrix: coopStoreT(sum, c) and return, where nothing forbids it
    // for every matrix: coopStoreT(sum, c_part); put
}
