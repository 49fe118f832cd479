// The product of tiled.wgsl, in its terms, by cooperative matrices: A and B are f16, products are added up in f32.
//
// Four subgroups of 32 threads make a TILE x TILE tile of C, each a quarter of it: rows and columns from `row` and `column` on, in
// PARTS x PARTS matrices of SIZE x SIZE. Nothing but loads, products and stores can be done with those, so C goes through workgroup
// memory, where bias and edges are seen to.
//
// Unverified: no device has run this yet.
//
// Generated with this: fetch_a and fetch_b from tiled_fetch.wgsl; for each marked line the same for every matrix of a quarter.

const TILE = 64u;
const TILE_K = 32u;
const QUADS = TILE / 4u;
const QUADS_K = TILE_K / 4u;
// A thread fetches a 4x4 block of A and one of B.
const THREADS = QUADS * QUADS_K;
const QUARTER = TILE / 2u;
// Beyond a tile's width, so that rows do not begin at the same bank.
const STRIDE = TILE + 8u;
const ELEMENTS = SIZE * SIZE;
const FOUR = vec4u(0u, 1u, 2u, 3u);

var<workgroup> a_tile: array<f16, TILE_K * STRIDE>; // [k][m]
var<workgroup> b_tile: array<f16, TILE_K * STRIDE>; // [k][n]
// One matrix of each subgroup.
var<workgroup> c_part: array<f32, 4u * ELEMENTS>;

struct Block { quad: u32, k_quad: u32 }

// Neighbours follow the contiguous index.
fn block_of(i: u32, along_k: bool) -> Block {
    if along_k { return Block(i / QUADS_K, i % QUADS_K); }
    return Block(i % QUADS, i / QUADS);
}

fn keep_a(at: u32, quad: vec4f) {
    a_tile[at] = f16(quad.x);
    a_tile[at + 1u] = f16(quad.y);
    a_tile[at + 2u] = f16(quad.z);
    a_tile[at + 3u] = f16(quad.w);
}

fn keep_b(at: u32, quad: vec4f) {
    b_tile[at] = f16(quad.x);
    b_tile[at + 1u] = f16(quad.y);
    b_tile[at + 2u] = f16(quad.z);
    b_tile[at + 3u] = f16(quad.w);
}

// Writes the matrix that lies `row` and `column` into every quarter of the tile that begins at m0 and n0.
fn put(thread: u32, c0: u32, bias0: u32, m0: u32, n0: u32, row: u32, column: u32) {
    for (var i = thread; i < 4u * ELEMENTS; i += THREADS) {
        let quarter = i / ELEMENTS;
        let m = m0 + quarter / 2u * QUARTER + row + i % ELEMENTS / SIZE;
        let n = n0 + quarter % 2u * QUARTER + column + i % SIZE;
        if m < sizes.m && n < sizes.n {
            var value = c_part[i];
            if sizes.has_bias == 1u { value += load_bias(bias0 + n); }
            let at = c0 + m * sizes.c_row + n;
            if sizes.accumulate == 1u { value += load_c(at); }
            store_c(at, value);
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
    let tiles_n = (sizes.n + TILE - 1u) / TILE;
    let m0 = tile / tiles_n * TILE;
    let n0 = tile % tiles_n * TILE;
    if m0 >= sizes.m { return; }
    let batch = group.z % sizes.batches;
    let split = group.z / sizes.batches;
    let a0 = sizes.a_offset + batch * sizes.a_batch;
    let b0 = sizes.b_offset + batch * sizes.b_batch;
    let k_start = split * sizes.k_per_split;
    let k_end = min(sizes.k, k_start + sizes.k_per_split);
    let a_stride = select(sizes.a_col, sizes.a_row, A_ALONG_K == 1u);
    let b_stride = select(sizes.b_row, sizes.b_col, B_ALONG_K == 1u);
    let a_block = block_of(thread, A_ALONG_K == 1u);
    let b_block = block_of(thread, B_ALONG_K == 1u);
    // All of them, wherever there are four.
    let subgroup = subgroup_id % 4u;
    let row = subgroup / 2u * QUARTER;
    let column = subgroup % 2u * QUARTER;

    let a_at = a_block.k_quad * 4u * STRIDE + a_block.quad * 4u;
    let b_at = b_block.k_quad * 4u * STRIDE + b_block.quad * 4u;
    let m = m0 + a_block.quad * 4u;
    let n = n0 + b_block.quad * 4u;

    // for every matrix: var sum = coop_mat<f32, C>();
    // Beyond the last k both are 0, so that nothing stands in an `if`, where naga sees no uniform control flow.
    var a_next = fetch_a(a0, a_stride, m, sizes.m, k_start + a_block.k_quad * 4u, k_end);
    var b_next = fetch_b(b0, b_stride, n, sizes.n, k_start + b_block.k_quad * 4u, k_end);
    for (var k0 = k_start; k0 < k_end; k0 += TILE_K) {
        keep_a(a_at, a_next[0]);
        keep_a(a_at + STRIDE, a_next[1]);
        keep_a(a_at + 2u * STRIDE, a_next[2]);
        keep_a(a_at + 3u * STRIDE, a_next[3]);
        keep_b(b_at, b_next[0]);
        keep_b(b_at + STRIDE, b_next[1]);
        keep_b(b_at + 2u * STRIDE, b_next[2]);
        keep_b(b_at + 3u * STRIDE, b_next[3]);
        workgroupBarrier();
        let k1 = k0 + TILE_K;
        a_next = fetch_a(a0, a_stride, m, sizes.m, k1 + a_block.k_quad * 4u, k_end);
        b_next = fetch_b(b0, b_stride, n, sizes.n, k1 + b_block.k_quad * 4u, k_end);
        for (var k = 0u; k < TILE_K; k += SIZE) {
            let ai = k * STRIDE + row;
            let bi = k * STRIDE + column;
            // for every matrix: sum = coopMultiplyAdd(a, b, sum);
        }
        workgroupBarrier();
    }

    let c0 = sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split;
    let bias0 = sizes.bias_offset + batch * sizes.bias_batch;
    // for every matrix: coopStoreT(sum, c_part); put
}
