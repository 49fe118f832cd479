// Burn keeps a weight for each gate as [inputs, H], tidegate all gates of a layer as [G·H, inputs] in one block.

struct Piece {
    // First element in the block, and in the staging buffer.
    packed: u32,
    staged: u32,
    // Of Burn's tensor; a bias has one row.
    rows: u32,
    columns: u32,
}

// In ascending order of both offsets.
@group(0) @binding(0) var<storage, read> pieces: array<Piece>;
@group(0) @binding(1) var<storage, read> src: array<f32>;
@group(0) @binding(2) var<storage, read_write> dst: array<f32>;

const THREADS = 256u;

fn index_of(group: vec3<u32>, groups: vec3<u32>, thread: u32) -> u32 {
    return (group.y * groups.x + group.x) * THREADS + thread;
}

// From staging buffer to block: one thread per element of the block.
@compute @workgroup_size(THREADS)
fn pack(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = index_of(group, groups, thread);
    var low = 0u;
    var high = arrayLength(&pieces);
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if pieces[middle].packed <= i { low = middle; } else { high = middle; }
    }
    let piece = pieces[low];
    // Rows of a gate that Burn leaves out keep their zeros.
    if i < piece.packed || i - piece.packed >= piece.rows * piece.columns {
        return;
    }
    let at = i - piece.packed;
    dst[i] = src[piece.staged + (at % piece.rows) * piece.columns + at / piece.rows];
}

// From block to staging buffer: one thread per staged element.
@compute @workgroup_size(THREADS)
fn unpack(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = index_of(group, groups, thread);
    var low = 0u;
    var high = arrayLength(&pieces);
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if pieces[middle].staged <= i { low = middle; } else { high = middle; }
    }
    let piece = pieces[low];
    if i - piece.staged >= piece.rows * piece.columns {
        return;
    }
    let at = i - piece.staged;
    dst[i] = src[piece.packed + (at % piece.columns) * piece.rows + at / piece.columns];
}
