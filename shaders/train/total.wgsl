// Sum of one value of each of 256 threads, by a fixed tree. At most once a dispatch: nothing keeps a second call from
// overwriting what the first still reads.

var<workgroup> values: array<f32, 256>;

fn total(thread: u32, value: f32) -> f32 {
    values[thread] = value;
    workgroupBarrier();
    for (var n = 128u; n > 0u; n /= 2u) {
        if thread < n { values[thread] += values[thread + n]; }
        workgroupBarrier();
    }
    return values[0];
}
