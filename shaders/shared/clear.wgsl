// Before a persistent dispatch, by threads `first`, `first + stride` and so on: no value is there, nobody has arrived, nothing has failed.
// control: the grid of the repair (x is 0: none), failed, arrived, how large gradients are.

fn clear(first: u32, stride: u32) {
    if first == 0u {
        control[0] = 0u;
        control[1] = sizes.repair_y;
        control[2] = sizes.repair_z;
        control[3] = 0u;
        control[4] = 0u;
        control[5] = 0u;
    }
    // The last four are read by those that have nothing to wait for.
    for (var i = first; i < sizes.words; i += stride) { exchange[i] = select(0u, 1u, i + 4u >= sizes.words); }
}
