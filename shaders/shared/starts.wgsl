// needs: shared/edges shared/mask
// Which step of a row the initial state enters: the first that is computed, if no edge before it is cut.

const NO_STEP = 0xffffffffu;

var<workgroup> found: u32;

// By all threads of a workgroup of 64, for the same row: the step, or NO_STEP.
fn start_of(direction: u32, b: u32, thread: u32) -> u32 {
    workgroupBarrier();
    if thread == 0u { found = NO_STEP; }
    workgroupBarrier();
    let back = runs_back(direction);
    if sizes.has_hold == 0u {
        let t = select(0u, max(mask[b], 1u) - 1u, back);
        if thread == 0u && mask[b] > 0u && !is_cut(t + u32(back), b) { found = t; }
    } else {
        for (var t = thread; t < mask[b]; t += 64u) {
            // No two steps of a row have this link.
            if link_of(direction, t, b) == FROM_START { found = t; }
        }
    }
    workgroupBarrier();
    return found;
}

// Whether a row ends with its initial state, as it computes no step and no edge is cut.
fn keeps_start(direction: u32, b: u32) -> bool {
    if mask[b] == 0u { return true; }
    let last = select(mask[b] - 1u, 0u, runs_back(direction));
    return link_of(direction, last, b) == (HELD | FROM_START);
}
