// Parameters as vec4f, where every row of weights begins at a multiple of 4 and has a multiple of 4 of them: a quarter of the loads.

fn param(at: u32) -> f32 {
    return params[at / 4u][at % 4u];
}

fn quad(at: u32, rest: u32) -> vec4f {
    return params[at / 4u];
}
