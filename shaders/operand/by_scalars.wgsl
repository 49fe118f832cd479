// Operands of held products, in workgroup memory by k, for any backend.

var<workgroup> exchange: array<f32, 4u * EXCHANGE>;

fn prepare_take() {}

fn load_block(at: u32) -> vec4f {
    return vec4f();
}

fn take(mine: vec4f, at: u32, q: u32) -> vec4f {
    let k = 4u * (at + q);
    return vec4f(exchange[k], exchange[k + 1u], exchange[k + 2u], exchange[k + 3u]);
}

fn put(k: u32, value: f32) {
    exchange[k] = value;
}
