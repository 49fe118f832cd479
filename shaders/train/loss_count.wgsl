// First stage of a loss, one workgroup: loss[1] = how many rows count.

var<workgroup> counts: array<u32, 256>;

@compute @workgroup_size(256)
fn loss_count(@builtin(local_invocation_index) thread: u32) {
    var count = 0u;
    for (var row = thread; row < sizes.rows; row += 256u) { count += u32(is_counted(row)); }
    counts[thread] = count;
    workgroupBarrier();
    for (var n = 128u; n > 0u; n /= 2u) {
        if thread < n { counts[thread] += counts[thread + n]; }
        workgroupBarrier();
    }
    if thread == 0u { loss[1] = f32(counts[0]); }
}
