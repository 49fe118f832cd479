// C = A·B (+ bias), a stack of `batches` products in one dispatch, K cut into `splits` parts.
//
// A(m,k) = a[a_offset + batch·a_batch + m·a_row + k·a_col], B(k,n) likewise with rows k and columns n,
// C(m,n) = c[c_offset + batch·c_batch + split·c_split + m·c_row + n]; group.z = split·batches + batch.
// A is contiguous along k (A_ALONG_K), else along m; B likewise along k (B_ALONG_K), else along n.
//
// A workgroup makes a TILE_M x TILE_N tile of C from tiles of A and B in workgroup memory, which hold quads along m and n for each
// k. A thread makes BLOCK_M x BLOCK_N of it in registers. While it multiplies one pair of tiles, its quads of the next are on their
// way from memory, and with BUFFERS of 2 they go to the other half of workgroup memory: one barrier for each pair of tiles.
//
// With SLICES above 1 there are as many threads for each block of C. Each slice takes its part of every tile's k, and the blocks
// are added up at the end: a small product then has enough threads without smaller blocks, which would read more for each product.
//
// Generated with this, as straight-line code so that the sums stay in registers: for each marked line the lines that depend on the
// block; fetch_a and fetch_b; put, by fours where C allows it.

const QUADS_K = TILE_K / 4u;
const QUADS_M = TILE_M / 4u;
const QUADS_N = TILE_N / 4u;
const THREADS_M = TILE_M / BLOCK_M;
const THREADS_N = TILE_N / BLOCK_N;
const SLICE_THREADS = THREADS_M * THREADS_N;
const THREADS = SLICE_THREADS * SLICES;
// The k of a tile that a slice takes.
const SLICE_K = TILE_K / SLICES;
// Rows of tiles that workgroups go through side by side, so that those at work at a time share what they read.
const BAND = 8u;
const FOUR = vec4u(0u, 1u, 2u, 3u);

// Quads of A, then those of B.
const B_TILE = TILE_K * QUADS_M;
const BUFFER = TILE_K * (QUADS_M + QUADS_N);
var<workgroup> tiles: array<vec4f, BUFFERS * BUFFER>;

// What the place of a quad is XORed with where an operand is contiguous along k: its quads are then cut up, and neighbours write to
// other k. This way they meet no bank twice, nor do 8 that read side by side.
fn swizzle(k_quad: u32) -> u32 {
    return k_quad * (8u / QUADS_K);
}

fn bias_quad(first: u32, n: u32) -> vec4f {
    if sizes.has_bias == 0u { return vec4f(); }
    let at = first + min(n + FOUR, vec4u(sizes.n - 1u));
    return vec4f(load_bias(at.x), load_bias(at.y), load_bias(at.z), load_bias(at.w));
}

@compute @workgroup_size(THREADS)
fn tiled(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
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
    let k_start = split * sizes.k_per_split;
    let k_end = max(k_start, min(sizes.k, k_start + sizes.k_per_split));
    let a0 = sizes.a_offset + batch * sizes.a_batch;
    let b0 = sizes.b_offset + batch * sizes.b_batch;
    let a_stride = select(sizes.a_col, sizes.a_row, A_ALONG_K == 1u);
    let b_stride = select(sizes.b_row, sizes.b_col, B_ALONG_K == 1u);
    // Where a split is empty, the first loads take what the last split has.
    let k_first = select(k_start, min(k_start, sizes.k - TILE_K), WHOLE_K == 1u);

    let slice = thread / SLICE_THREADS;
    let member = thread % SLICE_THREADS;
    // Each 32 threads make 8 x 4 blocks of C, pairs of them with the same rows: they then share most of what they read.
    let lane = member % 32u;
    let tm = member / 32u / (THREADS_N / 4u) * 8u + lane / 2u % 8u;
    let tn = member / 32u % (THREADS_N / 4u) * 4u + lane / 16u * 2u + lane % 2u;

    // for every quad of a tile that the thread fetches: its place in memory and in the tile
    // for every quad: next = fetch, the first
    // for every quad: tile = next, the first
    workgroupBarrier();
    // for every quad of the block: var sum = vec4f();
    var half = 0u;
    for (var k0 = k_start; k0 < k_end; k0 += TILE_K) {
        // for every quad: next = fetch
        // for every k of the slice: sum += a * b
        // for every quad: tile = next
    }
    let c_at = sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split;
    let bias_at = sizes.bias_offset + batch * sizes.bias_batch;
    let m = m0 + tm * 4u;
    let n = n0 + tn * 4u;
    // for every quad of the block: put
}
