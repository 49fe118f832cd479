// Weights where some row has no multiple of 4 of them.

// The next four of a row from `at` on, 0 beyond the `rest` that it has left.
fn quad(at: u32, rest: u32) -> vec4f {
    var w = vec4f();
    for (var i = 0u; i < min(rest, 4u); i++) { w[i] = load_params(at + i); }
    return w;
}
