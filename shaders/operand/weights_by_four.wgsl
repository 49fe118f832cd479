// Weights by fours, where every row of them begins at a multiple of 4 and has a multiple of 4: a quarter of the loads.

fn quad(at: u32, rest: u32) -> vec4f {
    return load4_params(at / 4u);
}
