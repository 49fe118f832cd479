// Puts the states of a workgroup's rows back to what `clear_exchange` kept of them: `blocks` blocks from `start` on.

fn restore(blocks: u32, start: u32, direction: u32, row0: u32, thread: u32, threads: u32) {
    if sizes.snapshot == 0u { return; }
    let rows = min(ROWS, sizes.batch - row0) * sizes.hidden;
    for (var i = thread; i < blocks * rows; i += threads) {
        let block = i / rows;
        let at = i % rows;
        let kept = sizes.snapshot + ((block * sizes.directions + direction) * sizes.batch + row0) * sizes.hidden + at;
        state[start + block * sizes.block + state_index(direction, row0, 0u) + at] = state[kept];
    }
    storageBarrier();
    workgroupBarrier();
}
