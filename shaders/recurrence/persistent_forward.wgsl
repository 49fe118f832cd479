// needs: shared/step_forward shared/exchange
// A whole chunk of the sequence in one dispatch of teams of workgroups. A team walks all steps for sizes.team_rows batch rows
// of one direction; each of its sizes.members members makes UNITS hidden units of them, ROWS rows at a time.
//
// A member has UNITS x LANES threads, LANES threads along K for each unit. The operand of a phase is staged in workgroup
// memory, TILE of K at a time. If HELD is 1, a thread keeps its BLOCKS * BLOCK weights of each gate and piece in registers;
// else the weights are read again at every step. h and, for a cell of two phases, mid go to the other members through
// `exchange` [chunk, SLOTS, D, B, H], or if HALVES is 1 two to a word, as f16; `state` is read and written by the unit's own
// thread only.
// The step index counts chunks of sizes.chunk steps, from step sizes.first to sizes.steps.

// Between the products and the next phase, with HALVES, what was made: [ROWS, UNITS].
var<workgroup> operand: array<f32, ROWS * max(TILE, UNITS)>;
var<workgroup> sums: array<f32, GATES * ROWS * THREADS>;
var<private> held: array<f32, HELD_LEN>;

fn chunk_start() -> u32 {
    return sizes.first + step_index.value * sizes.chunk;
}

fn exchange_index(step: u32, slot: u32, direction: u32, b: u32, k: u32) -> u32 {
    let of_chunk = step - chunk_start();
    let row = ((of_chunk * SLOTS + slot) * sizes.directions + direction) * sizes.batch + b;
    if HALVES == 1u { return row * ((sizes.hidden + 1u) / 2u) + k / 2u; }
    return row * sizes.hidden + k;
}

fn await_state(step: u32, slot: u32, direction: u32, b: u32, k: u32) -> f32 {
    let at = exchange_index(step, slot, direction, b, k);
    if HALVES == 1u { return await_halves(at)[k % 2u]; }
    return await_value(at);
}

// h before the step, or mid. A cut state is waited for too: no member may run ahead of another that still reads what was in
// `state` before the chunk.
fn operand_at(step: u32, phase: u32, direction: u32, b: u32, k: u32) -> f32 {
    if phase == 2u { return await_state(step, 1u, direction, b, k); }
    var h = 0.0;
    if step == chunk_start() {
        h = state[h_index(step, direction, b, k)];
    } else {
        h = await_state(step - 1u, 0u, direction, b, k);
    }
    return select(h, 0.0, enters_cut(direction, time_of(step, direction), b));
}

fn weight_at(direction: u32, g: u32, unit: u32, k: u32) -> f32 {
    if unit >= sizes.hidden || k >= sizes.hidden { return 0.0; }
    return load_params(sizes.weight + direction * sizes.param_stride + (g * sizes.hidden + unit) * sizes.hidden + k);
}

fn hold_weights(direction: u32, unit: u32, lane: u32) {
    for (var piece = 0u; piece < PIECES; piece++) {
        for (var g = 0u; g < GATES; g++) {
            for (var block = 0u; block < BLOCKS; block++) {
                for (var i = 0u; i < BLOCK; i++) {
                    let n = block * BLOCK + i;
                    let k = piece * TILE + n * LANES + lane;
                    held[(piece * GATES + g) * BLOCKS * BLOCK + n] = weight_at(direction, g, unit, k);
                }
            }
        }
    }
}

// One phase of one step for the rows from row0 on. Whether all operands came.
fn run_phase(
    step: u32, phase: u32, first: u32, count: u32, direction: u32, row0: u32, row_end: u32, unit0: u32, thread: u32,
    fixed: Fixed,
) -> bool {
    let lane = thread / UNITS;
    let unit = unit0 + thread % UNITS;
    // The first threads take a unit and row each. What they need is asked for now, so that it is there when the products are.
    let b = row0 + thread / UNITS;
    let finishes = thread < UNITS * ROWS && unit < sizes.hidden && b < row_end;
    var x = Before();
    if finishes { x = before(step, direction, b, unit, state[h_index(step, direction, b, unit)]); }

    var acc = array<f32, GATES * ROWS>();
    for (var piece = 0u; piece < PIECES; piece++) {
        if piece > 0u { workgroupBarrier(); }
        for (var i = thread; i < ROWS * TILE; i += THREADS) {
            let k = piece * TILE + i % TILE;
            let row = row0 + i / TILE;
            var value = 0.0;
            if row < row_end && k < sizes.hidden { value = operand_at(step, phase, direction, row, k); }
            operand[i] = value;
        }
        if !all_came(thread) { return false; }
        if HELD == 1u {
            for (var block = 0u; block < BLOCKS; block++) {
                for (var i = 0u; i < BLOCK; i++) {
                    let n = block * BLOCK + i;
                    for (var r = 0u; r < ROWS; r++) {
                        let value = operand[r * TILE + n * LANES + lane];
                        for (var g = first; g < first + count; g++) {
                            acc[g * ROWS + r] += held[(piece * GATES + g) * BLOCKS * BLOCK + n] * value;
                        }
                    }
                }
            }
        } else if unit < sizes.hidden {
            let end = min(TILE, sizes.hidden - piece * TILE);
            for (var k = lane; k < end; k += LANES) {
                for (var g = first; g < first + count; g++) {
                    let w = weight_at(direction, g, unit, piece * TILE + k);
                    for (var r = 0u; r < ROWS; r++) { acc[g * ROWS + r] += w * operand[r * TILE + k]; }
                }
            }
        }
    }
    for (var i = first * ROWS; i < (first + count) * ROWS; i++) { sums[i * THREADS + thread] = acc[i]; }
    workgroupBarrier();
    if LANES > 1u {
        // Every thread takes a gate, row and unit; its total goes to where only it has read.
        for (var i = thread; i < count * ROWS * UNITS; i += THREADS) {
            let at = (first * ROWS + i / UNITS) * THREADS + i % UNITS;
            var total = 0.0;
            for (var l = 0u; l < LANES; l++) { total += sums[at + l * UNITS]; }
            sums[at] = total;
        }
        workgroupBarrier();
    }
    let at = exchange_index(step, select(0u, 1u, phase == 1u), direction, b, unit);
    var made = 0.0;
    if finishes {
        var products = Gates();
        let r = thread / UNITS;
        for (var g = first; g < first + count; g++) { products[g] = sums[(g * ROWS + r) * THREADS + thread % UNITS]; }
        made = finish(step, phase, first, count, direction, b, unit, products, fixed, x);
        if HALVES == 0u { atomicStore(&exchange[at], encode(made)); }
        if phase != 1u { state[h_index(step + 1u, direction, b, unit)] = made; }
    }
    if HALVES == 1u {
        // UNITS is even, so both of a word are made here.
        if thread < UNITS * ROWS { operand[thread] = made; }
        workgroupBarrier();
        if finishes && unit % 2u == 0u { atomicStore(&exchange[at], encode_halves(vec2f(made, operand[thread + 1u]))); }
    }
    // No thread may wait for what another of its own workgroup has yet to publish: nothing promises that both run.
    workgroupBarrier();
    return true;
}

@compute @workgroup_size(THREADS)
fn persistent_forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let team = group.x / sizes.members;
    let direction = team % sizes.directions;
    let row_start = team / sizes.directions * sizes.team_rows;
    let row_end = min(sizes.batch, row_start + sizes.team_rows);
    let unit0 = group.x % sizes.members * UNITS;
    let unit = unit0 + thread % UNITS;
    if !roll_call(thread, group.x == 0u, groups.x) { return; }
    if HELD == 1u { hold_weights(direction, unit, thread / UNITS); }
    var fixed = Fixed();
    if unit < sizes.hidden { fixed = fixed_of(direction, unit); }

    let start = chunk_start();
    let end = min(sizes.steps, start + sizes.chunk);
    for (var step = start; step < end; step++) {
        if FIRST_PHASE_GATES == GATES {
            for (var row = row_start; row < row_end; row += ROWS) {
                if !run_phase(step, 0u, 0u, GATES, direction, row, row_end, unit0, thread, fixed) { return; }
            }
        } else {
            // Phase by phase over all rows: while one row's mids travel, the others' are made.
            for (var row = row_start; row < row_end; row += ROWS) {
                if !run_phase(step, 1u, 0u, FIRST_PHASE_GATES, direction, row, row_end, unit0, thread, fixed) { return; }
            }
            for (var row = row_start; row < row_end; row += ROWS) {
                let count = GATES - FIRST_PHASE_GATES;
                if !run_phase(step, 2u, FIRST_PHASE_GATES, count, direction, row, row_end, unit0, thread, fixed) { return; }
            }
        }
    }
}
