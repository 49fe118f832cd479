// Second stage: each row's Σ (prediction - target)², 0 where it does not count, and the gradient of the mean over all features of
// those that do.

@compute @workgroup_size(64)
fn mean_squared_error(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let stride = groups.x * 64u;
    for (var row = id.x; row < sizes.rows; row += stride) {
        let counted = is_counted(row);
        let scale = 2.0 / (max(loss[1], 1.0) * f32(sizes.features));
        var sum = 0.0;
        for (var i = row * sizes.features; i < (row + 1u) * sizes.features; i++) {
            var off = 0.0;
            if counted { off = prediction[i] - targets[i]; }
            sum += off * off;
            d_prediction[i] = off * scale;
        }
        row_loss[row] = sum;
    }
}
