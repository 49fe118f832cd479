// Operands of held products, in workgroup memory by k, where threads may write different components of one vector: WGSL alone
// does not promise that, Vulkan does.

var<workgroup> exchange: array<vec4f, EXCHANGE>;

fn prepare_take() {}

fn load_block(at: u32) -> vec4f {
    return vec4f();
}

fn take(mine: vec4f, at: u32, q: u32) -> vec4f {
    return exchange[at + q];
}

fn put(k: u32, value: f32) {
    exchange[k / 4u][k % 4u] = value;
}
