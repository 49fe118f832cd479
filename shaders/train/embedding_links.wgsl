// First stage of the scatter-add, without atomics: chains the rows of equal tokens by ascending row, and zeroes d_weight.
//
// links: the next row of the same token [rows], sizes.rows where there is none; then whether a row is the first of a token that
// has a gradient [rows].

@compute @workgroup_size(64)
fn embedding_links(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var row = id.x; row < sizes.rows; row += stride) {
        let token = tokens[row];
        var next = row + 1u;
        while next < sizes.rows && tokens[next] != token { next++; }
        var first = token < sizes.vocabulary;
        for (var before = row; before > 0u && first; before--) { first = tokens[before - 1u] != token; }
        links[row] = next;
        links[sizes.rows + row] = u32(first);
    }
    for (var i = id.x; i < sizes.vocabulary * sizes.features; i += stride) { d_weight[i] = 0.0; }
}
