// What a device can do at best: arithmetic that touches nothing but registers, and a copy that does nothing but move.

@group(0) @binding(0) var<storage, read_write> a: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> b: array<vec4f>;

@group(0) @binding(2) var<uniform> rounds: vec4u;

const THREADS = 64u;

// 8 chains of products and sums in vectors of 4, so 64 FLOPs a round; factors from memory, so that nothing folds them.
@compute @workgroup_size(THREADS)
fn arithmetic(@builtin(global_invocation_id) id: vec3u) {
    let factor = a[0];
    let term = a[1];
    var x0 = a[2] + f32(id.x);
    var x1 = x0 + 1.0;
    var x2 = x0 + 2.0;
    var x3 = x0 + 3.0;
    var x4 = x0 + 4.0;
    var x5 = x0 + 5.0;
    var x6 = x0 + 6.0;
    var x7 = x0 + 7.0;
    for (var i = 0u; i < rounds.x; i++) {
        x0 = x0 * factor + term;
        x1 = x1 * factor + term;
        x2 = x2 * factor + term;
        x3 = x3 * factor + term;
        x4 = x4 * factor + term;
        x5 = x5 * factor + term;
        x6 = x6 * factor + term;
        x7 = x7 * factor + term;
    }
    b[id.x] = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
}

@compute @workgroup_size(THREADS)
fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let all = arrayLength(&a);
    for (var i = id.x; i < all; i += groups.x * THREADS) { b[i] = a[i]; }
}
