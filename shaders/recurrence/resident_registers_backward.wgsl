// needs: shared/step_backward shared/restore
// A whole chunk of BPTT in one dispatch, all weights in registers: a workgroup walks all its steps for sizes.group_rows batch
// rows of one direction, one row after the other.
//
// It has GROUP x LANES threads, no less than H. Thread i multiplies for the COLUMNS units i % GROUP + c * GROUP, by its share of
// K: of the rows of all gates, or of the first phase's QUADS and then the second's QUADS_2 vec4f from i / GROUP * QUADS on.
// Then the first threads take a unit each. The gates' gradients that threads exchange are in workgroup memory, padded with 0:
// by step parity if PARITY is 1, VECTOR vec4f each, else the first phase's, VECTOR vec4f, and then the second's.
// The step index counts chunks of sizes.chunk steps, of sizes.steps in all. Joined with one of operand/by_* and
// generated `multiply(phase, at)`, see resident_registers_forward.wgsl.

const UNITS = GROUP * COLUMNS;
const THREADS = GROUP * LANES;

var<workgroup> parts: array<f32, PARTS>;
// [quad][column]
var<private> held: array<vec4f, HELD_LEN>;
var<private> sums: array<vec4f, COLUMNS>;

// Where the gradients of a step's gates are, in vec4f.
fn slot_of(step: u32) -> u32 {
    return (step & PARITY) * VECTOR;
}

fn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {
    let first_rows = FIRST_PHASE_GATES * sizes.hidden;
    put(4u * slot_of(step) + select(gate_row, 4u * VECTOR + gate_row - first_rows, gate_row >= first_rows), value);
}

fn weight_at(direction: u32, gate_row: u32, end: u32, unit: u32) -> f32 {
    if unit >= sizes.hidden || gate_row >= end { return 0.0; }
    return load_params(sizes.weight + direction * sizes.param_stride + gate_row * sizes.hidden + unit);
}

// In one loop, too long to be unrolled on a CPU adapter, where so many loads would take seconds to compile.
fn hold_weights(direction: u32, thread: u32) {
    let lane = thread / GROUP;
    let first_rows = FIRST_PHASE_GATES * sizes.hidden;
    for (var i = 0u; i < HELD_LEN; i++) {
        let unit = thread % GROUP + i % COLUMNS * GROUP;
        let quad = i / COLUMNS;
        var row = 4u * (lane * QUADS + quad);
        var end = first_rows;
        if quad >= QUADS {
            row = first_rows + 4u * (lane * QUADS_2 + quad - QUADS);
            end = GATES * sizes.hidden;
        }
        held[i] = vec4f(
            weight_at(direction, row, end, unit), weight_at(direction, row + 1u, end, unit),
            weight_at(direction, row + 2u, end, unit), weight_at(direction, row + 3u, end, unit),
        );
    }
}

fn run_phase(step: u32, phase: u32, direction: u32, b: u32, thread: u32) {
    let lane = thread / GROUP;
    let unit = thread;
    let finishes = thread < sizes.hidden;
    // Asked for now, so that it is there when the product is.
    var x = Before();
    if finishes { x = before(step, direction, b, unit); }

    for (var c = 0u; c < COLUMNS; c++) { sums[c] = vec4f(); }
    // Phase 2 takes what phase 1 of the same step made, the others what the step before did: before the first that is 0.
    multiply(phase, select(slot_of(step + 1u) + lane * QUADS, VECTOR + lane * QUADS_2, phase == 2u));
    var product = dot(sums[0], vec4f(1.0));
    if LANES > 1u {
        for (var c = 0u; c < COLUMNS; c++) {
            parts[lane * UNITS + c * GROUP + thread % GROUP] = dot(sums[c], vec4f(1.0));
        }
        workgroupBarrier();
        if finishes {
            product = 0.0;
            for (var l = 0u; l < LANES; l++) { product += parts[l * UNITS + unit]; }
        }
    }
    if finishes { finish(step, phase, direction, b, 0u, unit, product, x); }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS)
fn resident_registers_backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let direction = group.z;
    let start = step_index.value * sizes.chunk;
    let end = min(sizes.steps, start + sizes.chunk);
    prepare_take();
    hold_weights(direction, thread);
    for (var k = thread; k < 4u * EXCHANGE; k += THREADS) { put(k, 0.0); }
    workgroupBarrier();

    let row_end = min(sizes.batch, (group.y + 1u) * sizes.group_rows);
    for (var b = group.y * sizes.group_rows; b < row_end; b++) {
        restore(STATES, sizes.d_state_at, direction, b, thread, THREADS);
        // What the chunk before made last.
        for (var i = thread; i < GATES * sizes.hidden; i += THREADS) {
            var value = 0.0;
            if start > 0u {
                value = d_gates[sizes.d_rh + gate_index(direction, row_of(time_before(start, direction), b), 0u, 0u) + i];
            }
            publish(start + 1u, direction, b, 0u, i, value);
        }
        workgroupBarrier();
        for (var step = start; step < end; step++) {
            if FIRST_PHASE_GATES == GATES {
                run_phase(step, 0u, direction, b, thread);
            } else {
                run_phase(step, 1u, direction, b, thread);
                if step < sizes.seq_len { run_phase(step, 2u, direction, b, thread); }
            }
        }
    }
}
