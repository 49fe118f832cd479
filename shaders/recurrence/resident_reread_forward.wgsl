// needs: shared/step_forward shared/restore
// A whole chunk of the sequence in one dispatch: a workgroup walks all its steps for ROWS batch rows of one direction.
//
// It has LANES x UNITS threads: UNITS hidden units at a time, LANES threads along K for each. The vectors that threads
// exchange (h by step parity, then mid) are in workgroup memory if SHARED, else in the state, which no other workgroup
// touches at these rows. The weights are read again at every step; where they fit into registers, held_forward keeps them.
// The step index counts chunks of sizes.chunk steps, from step sizes.first to sizes.steps.

var<workgroup> exchange: array<f32, EXCHANGE>;
var<workgroup> sums: array<f32, SUMS>;

// Where the operand of a phase is: h before the step, or mid.
fn slot_of(step: u32, phase: u32) -> u32 {
    return select(step & 1u, 2u, phase == 2u);
}

fn operand(step: u32, phase: u32, direction: u32, b: u32, r: u32, k: u32) -> f32 {
    if SHARED == 1u { return exchange[(slot_of(step, phase) * ROWS + r) * sizes.hidden + k]; }
    if phase == 2u { return state[mid_index(direction, b, k)]; }
    return state[h_index(step, direction, b, k)];
}

// What a phase made: mid, or h after the step.
fn publish(step: u32, phase: u32, direction: u32, b: u32, r: u32, unit: u32, value: f32) {
    if SHARED == 1u {
        let slot = select(slot_of(step + 1u, 0u), 2u, phase == 1u);
        exchange[(slot * ROWS + r) * sizes.hidden + unit] = value;
    } else if phase == 1u {
        state[mid_index(direction, b, unit)] = value;
    } else {
        state[h_index(step + 1u, direction, b, unit)] = value;
    }
}

fn complete(
    step: u32, phase: u32, first: u32, count: u32, direction: u32, row0: u32, r: u32, unit: u32, products: Gates,
) {
    let b = row0 + r;
    if unit >= sizes.hidden || b >= sizes.batch { return; }
    let x = before(step, direction, b, unit, operand(step, 0u, direction, b, r, unit));
    let made = finish(step, phase, first, count, direction, b, unit, products, fixed_of(direction, unit), x);
    publish(step, phase, direction, b, r, unit, made);
}

fn barrier() {
    if SHARED == 0u { storageBarrier(); }
    workgroupBarrier();
}

fn run_phase(step: u32, phase: u32, first: u32, count: u32, direction: u32, row0: u32, lane: u32, local_unit: u32) {
    let t = time_of(step, direction);
    let weight = sizes.weight + direction * sizes.param_stride;
    for (var unit0 = 0u; unit0 < sizes.hidden; unit0 += UNITS) {
        let unit = unit0 + local_unit;
        var acc = array<f32, GATES * ROWS>();
        var cut = array<bool, ROWS>();
        for (var r = 0u; r < ROWS; r++) {
            cut[r] = row0 + r >= sizes.batch || (phase != 2u && enters_cut(direction, t, row0 + r));
        }
        if unit < sizes.hidden {
            for (var k = lane; k < sizes.hidden; k += LANES) {
                var x = array<f32, ROWS>();
                for (var r = 0u; r < ROWS; r++) {
                    if !cut[r] { x[r] = operand(step, phase, direction, row0 + r, r, k); }
                }
                for (var g = first; g < first + count; g++) {
                    let w = load_params(weight + (g * sizes.hidden + unit) * sizes.hidden + k);
                    for (var r = 0u; r < ROWS; r++) { acc[g * ROWS + r] += w * x[r]; }
                }
            }
        }
        if LANES == 1u {
            for (var r = 0u; r < ROWS; r++) {
                var products = Gates();
                for (var g = first; g < first + count; g++) { products[g] = acc[g * ROWS + r]; }
                complete(step, phase, first, count, direction, row0, r, unit, products);
            }
        } else {
            for (var i = first * ROWS; i < (first + count) * ROWS; i++) {
                sums[(local_unit * GATES * ROWS + i) * LANES + lane] = acc[i];
            }
            workgroupBarrier();
            // The first threads take a unit and row each, so that the others are idle by whole subgroups.
            for (var i = local_unit * LANES + lane; i < UNITS * ROWS; i += UNITS * LANES) {
                let r = i / UNITS;
                let u = i % UNITS;
                var products = Gates();
                for (var g = first; g < first + count; g++) {
                    for (var l = 0u; l < LANES; l++) { products[g] += sums[((u * GATES + g) * ROWS + r) * LANES + l]; }
                }
                complete(step, phase, first, count, direction, row0, r, unit0 + u, products);
            }
        }
        // The sums are free for the next pass, and after the last all of the phase's vector is there.
        barrier();
    }
}

@compute @workgroup_size(LANES, UNITS)
fn resident_reread_forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let direction = group.z;
    let row0 = group.y * ROWS;
    let lane = local.x;
    let start = sizes.first + step_index.value * sizes.chunk;
    let end = min(sizes.steps, start + sizes.chunk);
    restore(STATES + 1u, 0u, direction, row0, local.y * LANES + lane, LANES * UNITS);
    if SHARED == 1u {
        for (var i = local.y * LANES + lane; i < ROWS * sizes.hidden; i += LANES * UNITS) {
            let b = row0 + i / sizes.hidden;
            var h = 0.0;
            if b < sizes.batch { h = state[h_index(start, direction, b, i % sizes.hidden)]; }
            exchange[(start & 1u) * ROWS * sizes.hidden + i] = h;
        }
    }
    barrier();
    for (var step = start; step < end; step++) {
        if FIRST_PHASE_GATES == GATES {
            run_phase(step, 0u, 0u, GATES, direction, row0, lane, local.y);
        } else {
            run_phase(step, 1u, 0u, FIRST_PHASE_GATES, direction, row0, lane, local.y);
            run_phase(step, 2u, FIRST_PHASE_GATES, GATES - FIRST_PHASE_GATES, direction, row0, lane, local.y);
        }
    }
    if SHARED == 1u && end < sizes.seq_len {
        for (var i = local.y * LANES + lane; i < ROWS * sizes.hidden; i += LANES * UNITS) {
            let b = row0 + i / sizes.hidden;
            if b < sizes.batch {
                state[h_index(end, direction, b, i % sizes.hidden)] = exchange[(end & 1u) * ROWS * sizes.hidden + i];
            }
        }
    }
}
