// needs: train/total shared/floats
// Second stage, one workgroup: norm[0] = the norm, norm[1] = what the gradients are multiplied by.

@compute @workgroup_size(256)
fn norm_total(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var i = thread; i < sizes.partials; i += 256u) { sum += partial[i]; }
    sum = total(thread, sum);
    if thread == 0u {
        let found = sqrt(sum);
        norm[0] = found;
        norm[1] = select(min(1.0, bitcast<f32>(sizes.most) / (found + 1e-6)), found, is_nan(found));
    }
}
