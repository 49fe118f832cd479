// Operands of held products, in workgroup memory by k. A thread loads one vec4f of 8 and takes the others from its neighbours:
// on a CPU adapter a load costs as much as a hundred products. Needs subgroups of at least 8 threads that all want the same.

var<workgroup> exchange: array<vec4f, EXCHANGE>;
var<private> place: u32;

fn prepare_take() {
    place = subgroupExclusiveAdd(1u) % 8u;
}

fn load_block(at: u32) -> vec4f {
    return exchange[at + place];
}

// The q-th of the block from `at` on, of which this thread has loaded `mine`.
fn take(mine: vec4f, at: u32, q: u32) -> vec4f {
    return subgroupShuffle(mine, q);
}

fn put(k: u32, value: f32) {
    exchange[k / 4u][k % 4u] = value;
}
