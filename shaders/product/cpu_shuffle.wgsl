// Eight values of A at a time: each of eight threads loads one, and all get them by shuffles.

var<private> lane: u32;
var<private> row_at: u32;
var<private> row_k: u32;
var<private> row_end: u32;

// Called by all threads, which then make whole subgroups of at least 8.
fn take_init(local_index: u32) {
    lane = subgroupExclusiveAdd(1u) % 8u;
}

// For the row of A that begins at `at`, take(i) gives the values from k0 + i on, and 0 from k_end on.
fn take_row(at: u32, k0: u32, k_end: u32) {
    row_at = at;
    row_k = k0;
    row_end = k_end;
}

fn take(first: u32) -> array<f32, 8> {
    let k = row_k + first + lane;
    var mine = 0.0;
    if k < row_end { mine = load_a(row_at + k * sizes.a_col); }
    return array<f32, 8>(
        subgroupShuffle(mine, 0u),
        subgroupShuffle(mine, 1u),
        subgroupShuffle(mine, 2u),
        subgroupShuffle(mine, 3u),
        subgroupShuffle(mine, 4u),
        subgroupShuffle(mine, 5u),
        subgroupShuffle(mine, 6u),
        subgroupShuffle(mine, 7u),
    );
}
