// C = A·B (+ bias), a stack of `batches` products in one dispatch, K cut into `splits` parts.
//
// A(m,k) = a[a_offset + batch·a_batch + m·a_row + k·a_col], B(k,n) likewise with rows k and columns n,
// C(m,n) = c[c_offset + batch·c_batch + split·c_split + m·c_row + n]; group.z = split·batches + batch.
// A is contiguous along k (A_ALONG_K), else along m; B likewise along k (B_ALONG_K), else along n.
//
// A workgroup makes a TILE_M x TILE_N tile of C from tiles of A and B in workgroup memory, a thread BLOCK_M x BLOCK_N of it in
// registers. While it multiplies one pair of tiles, its 4x4 block of the next is on its way from memory.
//
// Generated with this: fetch_a and fetch_b from tiled_fetch.wgsl; Sums, multiply and write, straight-line code so that the sums
// stay in registers; put, by fours where C allows it.

const QUADS_K = TILE_K / 4u;
const QUADS_M = TILE_M / 4u;
const QUADS_N = TILE_N / 4u;
const THREADS_M = TILE_M / BLOCK_M;
const THREADS_N = TILE_N / BLOCK_N;
const THREADS = THREADS_M * THREADS_N;
// A thread fetches one of these, or none.
const A_BLOCKS = QUADS_K * QUADS_M;
const B_BLOCKS = QUADS_K * QUADS_N;
const FOUR = vec4u(0u, 1u, 2u, 3u);

// Of A, then of B, for each k quads along m, or n.
var<workgroup> tiles: array<vec4f, TILE_K * (QUADS_M + QUADS_N)>;
const B_TILE = TILE_K * QUADS_M;

// What the place of a quad is XORed with. Blocks side by side along k are written by neighbours: this way any 8 of them meet no
// bank twice, nor do 8 that read side by side.
fn swizzle(k_quad: u32) -> u32 {
    return k_quad * (8u / QUADS_K);
}

// Where a 4x4 block lies in its tile.
struct Block { quad: u32, k_quad: u32 }

// Neighbours follow the contiguous index.
fn block_of(i: u32, quads: u32, along_k: bool) -> Block {
    if along_k { return Block(i / QUADS_K, i % QUADS_K); }
    return Block(i % quads, i / quads);
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
    let a_stride = select(sizes.a_col, sizes.a_row, A_ALONG_K == 1u);
    let b_stride = select(sizes.b_row, sizes.b_col, B_ALONG_K == 1u);
    let of_a = thread < A_BLOCKS;
    let of_b = !of_a && thread < A_BLOCKS + B_BLOCKS;
    var block = block_of(thread, QUADS_M, A_ALONG_K == 1u);
    if of_b { block = block_of(thread - A_BLOCKS, QUADS_N, B_ALONG_K == 1u); }
    let quads = select(QUADS_N, QUADS_M, of_a);
    let to = select(B_TILE, 0u, of_a) + block.k_quad * 4u * quads + (block.quad ^ swizzle(block.k_quad));
    // Each 32 threads make 4 x 8 blocks of C: they then share most of what they read.
    let tm = thread / 32u / (THREADS_N / 8u) * 4u + thread % 32u / 8u;
    let tn = thread / 32u % (THREADS_N / 8u) * 8u + thread % 8u;

    var sums = Sums();
    for (var k0 = k_start; ; k0 += TILE_K) {
        var next = mat4x4f();
        if k0 < k_end {
            if of_a {
                next = fetch_a(a0, a_stride, m0 + block.quad * 4u, sizes.m, k0 + block.k_quad * 4u, k_end);
            } else if of_b {
                next = fetch_b(b0, b_stride, n0 + block.quad * 4u, sizes.n, k0 + block.k_quad * 4u, k_end);
            }
        }
        if k0 > k_start {
            let there = min(QUADS_K, (k_end - k0 + TILE_K + 3u) / 4u);
            for (var q = 0u; q < there; q++) {
                let ai = q * 4u * QUADS_M + (tm ^ swizzle(q));
                let bi = B_TILE + q * 4u * QUADS_N + (tn ^ swizzle(q));
                multiply(&sums, ai, bi);
                multiply(&sums, ai + QUADS_M, bi + QUADS_N);
                multiply(&sums, ai + 2u * QUADS_M, bi + 2u * QUADS_N);
                multiply(&sums, ai + 3u * QUADS_M, bi + 3u * QUADS_N);
            }
            workgroupBarrier();
        }
        if k0 >= k_end { break; }
        if of_a || of_b {
            tiles[to] = next[0];
            tiles[to + quads] = next[1];
            tiles[to + 2u * quads] = next[2];
            tiles[to + 3u * quads] = next[3];
        }
        workgroupBarrier();
    }
    let c0 = sizes.c_offset + batch * sizes.c_batch + split * sizes.c_split;
    write(&sums, c0, sizes.bias_offset + batch * sizes.bias_batch, m0 + tm * 4u, n0 + tn * 4u);
}
