// needs: shared/step_backward shared/exchange
// A whole chunk of BPTT in one dispatch of teams of workgroups. A team walks all steps for sizes.team_rows batch rows of one
// direction; each of its sizes.members members makes UNITS hidden units of them, ROWS rows at a time.
//
// A member has UNITS x LANES threads, LANES threads along K (the rows of all gates) for each unit. The gates' gradients are
// staged in workgroup memory, TILE of K at a time. If HELD is 1, a thread keeps its BLOCKS * BLOCK weights of each piece in
// registers; else the weights are read again at every step. The gradients go to the other members through `exchange`
// [chunk, D, B, G·H]; `state` is read and written by the unit's own thread only.
// The step index counts chunks of sizes.chunk steps.

var<workgroup> operand: array<f32, ROWS * TILE>;
var<workgroup> sums: array<f32, ROWS * THREADS>;
var<private> held: array<f32, HELD_LEN>;

fn exchange_index(step: u32, direction: u32, b: u32, gate_row: u32) -> u32 {
    let of_chunk = step - step_index.value * sizes.chunk;
    return ((of_chunk * sizes.directions + direction) * sizes.batch + b) * GATES * sizes.hidden + gate_row;
}

fn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {
    atomicStore(&exchange[exchange_index(step, direction, b, gate_row)], encode(value));
}

// Phase 2 takes what phase 1 of the same step made, the others what the step before did.
fn operand_at(step: u32, phase: u32, direction: u32, b: u32, gate_row: u32) -> f32 {
    if phase == 2u { return await_value(exchange_index(step, direction, b, gate_row)); }
    if step == step_index.value * sizes.chunk {
        let row = row_of(time_before(step, direction), b);
        return d_rows[sizes.d_rh + gate_index(direction, row, 0u, 0u) + gate_row];
    }
    return await_value(exchange_index(step - 1u, direction, b, gate_row));
}

fn weight_at(direction: u32, gate_row: u32, unit: u32) -> f32 {
    if unit >= sizes.hidden { return 0.0; }
    return load_params(sizes.weight + direction * sizes.param_stride + gate_row * sizes.hidden + unit);
}

// Those of the gates from `first` on, behind `pieces` others.
fn hold_weights(pieces_before: u32, pieces: u32, first: u32, count: u32, direction: u32, unit: u32, lane: u32) {
    for (var piece = 0u; piece < pieces; piece++) {
        for (var block = 0u; block < BLOCKS; block++) {
            for (var i = 0u; i < BLOCK; i++) {
                let n = block * BLOCK + i;
                let k = piece * TILE + n * LANES + lane;
                var w = 0.0;
                if k < count * sizes.hidden { w = weight_at(direction, first * sizes.hidden + k, unit); }
                held[(pieces_before + piece) * BLOCKS * BLOCK + n] = w;
            }
        }
    }
}

// One phase of one step for the rows from row0 on. Whether all operands came.
fn run_phase(
    step: u32, phase: u32, pieces_before: u32, pieces: u32, first: u32, count: u32,
    direction: u32, row0: u32, row_end: u32, unit0: u32, thread: u32,
) -> bool {
    let lane = thread / UNITS;
    let unit = unit0 + thread % UNITS;
    // The first threads take a unit and row each. What they need is asked for now, so that it is there when the products are.
    let r = thread / UNITS;
    let finishes = thread < UNITS * ROWS && unit < sizes.hidden && row0 + r < row_end;
    var x = Before();
    if finishes { x = before(step, direction, row0 + r, unit); }

    var acc = array<f32, ROWS>();
    if phase == 2u || step > 0u {
        for (var piece = 0u; piece < pieces; piece++) {
            if piece > 0u { workgroupBarrier(); }
            for (var i = thread; i < ROWS * TILE; i += THREADS) {
                let k = piece * TILE + i % TILE;
                let row = row0 + i / TILE;
                var value = 0.0;
                if row < row_end && k < count * sizes.hidden {
                    value = operand_at(step, phase, direction, row, first * sizes.hidden + k);
                }
                operand[i] = value;
            }
            if !all_came(thread) { return false; }
            if HELD == 1u {
                for (var block = 0u; block < BLOCKS; block++) {
                    for (var i = 0u; i < BLOCK; i++) {
                        let n = block * BLOCK + i;
                        let w = held[(pieces_before + piece) * BLOCKS * BLOCK + n];
                        for (var r = 0u; r < ROWS; r++) { acc[r] += w * operand[r * TILE + n * LANES + lane]; }
                    }
                }
            } else {
                let end = min(TILE, count * sizes.hidden - piece * TILE);
                for (var k = lane; k < end; k += LANES) {
                    let w = weight_at(direction, first * sizes.hidden + piece * TILE + k, unit);
                    for (var r = 0u; r < ROWS; r++) { acc[r] += w * operand[r * TILE + k]; }
                }
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) { sums[i * THREADS + thread] = acc[i]; }
    workgroupBarrier();
    if finishes {
        var total = 0.0;
        for (var l = 0u; l < LANES; l++) { total += sums[r * THREADS + l * UNITS + thread % UNITS]; }
        finish(step, phase, direction, row0 + r, r, unit, total, x);
    }
    // No thread may wait for what another of its own workgroup has yet to publish: nothing promises that both run.
    workgroupBarrier();
    return true;
}

@compute @workgroup_size(THREADS)
fn persistent_backward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let team = group.x / sizes.members;
    let direction = team % sizes.directions;
    let row_start = team / sizes.directions * sizes.team_rows;
    let row_end = min(sizes.batch, row_start + sizes.team_rows);
    let unit0 = group.x % sizes.members * UNITS;
    let rest = GATES - FIRST_PHASE_GATES;
    if !roll_call(thread, group.x == 0u, groups.x) { return; }
    if HELD == 1u {
        let unit = unit0 + thread % UNITS;
        hold_weights(0u, PIECES, 0u, FIRST_PHASE_GATES, direction, unit, thread / UNITS);
        hold_weights(PIECES, PIECES_2, FIRST_PHASE_GATES, rest, direction, unit, thread / UNITS);
    }

    let start = step_index.value * sizes.chunk;
    let end = min(sizes.steps, start + sizes.chunk);
    for (var step = start; step < end; step++) {
        let phase = select(1u, 0u, FIRST_PHASE_GATES == GATES);
        for (var row = row_start; row < row_end; row += ROWS) {
            let came = run_phase(step, phase, 0u, PIECES, 0u, FIRST_PHASE_GATES, direction, row, row_end, unit0, thread);
            if !came { return; }
        }
        if FIRST_PHASE_GATES == GATES || step == sizes.seq_len { continue; }
        // Phase by phase over all rows: while one row's gradients travel, the others' are made.
        for (var row = row_start; row < row_end; row += ROWS) {
            let came = run_phase(step, 2u, PIECES, PIECES_2, FIRST_PHASE_GATES, rest, direction, row, row_end, unit0, thread);
            if !came { return; }
        }
    }
}
