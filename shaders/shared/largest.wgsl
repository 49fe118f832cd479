// needs: shared/floats
// How the threads of all workgroups leave the largest of the bits that each found, such as of magnitudes, in a word of `control`.

var<workgroup> largest: atomic<u32>;

// All threads of the workgroup must come.
fn leave_largest(thread: u32, found: u32, word: u32) {
    if thread == 0u { atomicStore(&largest, 0u); }
    workgroupBarrier();
    atomicMax(&largest, found);
    workgroupBarrier();
    if thread == 0u { atomicMax(&control[word], atomicLoad(&largest)); }
}
