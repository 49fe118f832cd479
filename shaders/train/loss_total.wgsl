// needs: train/total
// Third stage, one workgroup: loss[0] = the mean, 0 where nothing counts. A row is a mean over sizes.of_row terms.

@compute @workgroup_size(256)
fn loss_total(@builtin(local_invocation_index) thread: u32) {
    var sum = 0.0;
    for (var row = thread; row < sizes.rows; row += 256u) { sum += row_loss[row]; }
    sum = total(thread, sum);
    if thread == 0u { loss[0] = sum / (max(loss[1], 1.0) * f32(sizes.of_row)); }
}
