// needs: shared/step_backward shared/restore
// A whole chunk of BPTT in one dispatch: a workgroup walks all its steps for ROWS batch rows of one direction.
//
// It has UNITS x LANES threads: UNITS hidden units at a time, LANES threads along K (rows of each gate) for each. The gates'
// gradients that threads exchange, by step parity, are in workgroup memory if SHARED, else read from d_gates, whose rows no
// other workgroup touches. The weights are read again at every step; where they fit into registers, held_backward keeps them.
// The step index counts chunks of sizes.chunk steps, of sizes.steps in all.

var<workgroup> exchange: array<f32, EXCHANGE>;
var<workgroup> sums: array<f32, SUMS>;

fn exchange_index(step: u32, r: u32, gate_row: u32) -> u32 {
    return ((step & 1u) * ROWS + r) * GATES * sizes.hidden + gate_row;
}

fn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {
    if SHARED == 1u { exchange[exchange_index(step, r, gate_row)] = value; }
}

fn complete(step: u32, phase: u32, direction: u32, row0: u32, r: u32, unit: u32, product: f32) {
    let b = row0 + r;
    if unit >= sizes.hidden || b >= sizes.batch { return; }
    finish(step, phase, direction, b, r, unit, product, before(step, direction, b, unit));
}

fn barrier() {
    if SHARED == 0u { storageBarrier(); }
    workgroupBarrier();
}

fn run_phase(step: u32, phase: u32, first: u32, count: u32, direction: u32, row0: u32, lane: u32, local_unit: u32) {
    // Phase 2 takes what phase 1 of the same step made.
    let from_step = select(step - 1u, step, phase == 2u);
    let t_from = select(time_before(step, direction), time_of(step, direction), phase == 2u);
    let has_product = phase == 2u || step > 0u;
    let weight = sizes.weight + direction * sizes.param_stride;
    for (var unit0 = 0u; unit0 < sizes.hidden; unit0 += UNITS) {
        let unit = unit0 + local_unit;
        var acc = array<f32, ROWS>();
        if unit < sizes.hidden && has_product {
            for (var gate_row = first * sizes.hidden + lane; gate_row < (first + count) * sizes.hidden; gate_row += LANES) {
                let w = load_params(weight + gate_row * sizes.hidden + unit);
                for (var r = 0u; r < ROWS; r++) {
                    var x = 0.0;
                    if SHARED == 1u {
                        x = exchange[exchange_index(from_step, r, gate_row)];
                    } else if row0 + r < sizes.batch {
                        x = d_gates[sizes.d_rh + gate_index(direction, row_of(t_from, row0 + r), 0u, 0u) + gate_row];
                    }
                    acc[r] += w * x;
                }
            }
        }
        if LANES == 1u {
            for (var r = 0u; r < ROWS; r++) {
                complete(step, phase, direction, row0, r, unit, acc[r]);
            }
        } else {
            for (var r = 0u; r < ROWS; r++) { sums[(lane * ROWS + r) * UNITS + local_unit] = acc[r]; }
            workgroupBarrier();
            // The first threads take a unit and row each, so that the others are idle by whole subgroups.
            for (var i = lane * UNITS + local_unit; i < UNITS * ROWS; i += UNITS * LANES) {
                let r = i / UNITS;
                let u = i % UNITS;
                var sum = 0.0;
                for (var l = 0u; l < LANES; l++) { sum += sums[l * UNITS * ROWS + i]; }
                complete(step, phase, direction, row0, r, unit0 + u, sum);
            }
        }
        barrier();
    }
}

@compute @workgroup_size(UNITS, LANES)
fn resident_reread_backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let direction = group.z;
    let row0 = group.y * ROWS;
    let lane = local.y;
    let start = step_index.value * sizes.chunk;
    let end = min(sizes.steps, start + sizes.chunk);
    restore(STATES, sizes.d_state_at, direction, row0, lane * UNITS + local.x, LANES * UNITS);
    if SHARED == 1u {
        // What the chunk before made last; rows past the batch stay 0.
        for (var i = lane * UNITS + local.x; i < 2u * ROWS * GATES * sizes.hidden; i += LANES * UNITS) {
            exchange[i] = 0.0;
        }
        workgroupBarrier();
        if start > 0u {
            let t_from = time_before(start, direction);
            for (var i = lane * UNITS + local.x; i < ROWS * GATES * sizes.hidden; i += LANES * UNITS) {
                let r = i / (GATES * sizes.hidden);
                let gate_row = i % (GATES * sizes.hidden);
                if row0 + r < sizes.batch {
                    let value = d_gates[sizes.d_rh + gate_index(direction, row_of(t_from, row0 + r), 0u, 0u) + gate_row];
                    exchange[exchange_index(start - 1u, r, gate_row)] = value;
                }
            }
        }
    }
    barrier();
    for (var step = start; step < end; step++) {
        if FIRST_PHASE_GATES == GATES {
            run_phase(step, 0u, 0u, GATES, direction, row0, lane, local.x);
        } else {
            run_phase(step, 1u, 0u, FIRST_PHASE_GATES, direction, row0, lane, local.x);
            if step < sizes.seq_len {
                run_phase(step, 2u, FIRST_PHASE_GATES, GATES - FIRST_PHASE_GATES, direction, row0, lane, local.x);
            }
        }
    }
}
