// needs: shared/step_forward shared/restore
// A whole chunk of the sequence in one dispatch, all weights in registers: a workgroup walks all its steps for
// sizes.group_rows batch rows of one direction, one row after the other.
//
// It has GROUP x LANES threads, GROUP no less than H. Thread i multiplies for unit i % GROUP, by its share of K: the QUADS vec4f
// from i / GROUP * QUADS on. The first thread of a unit keeps its h. The vectors that threads exchange are in workgroup memory,
// padded with 0: h (by step parity, if PARITY is 1) and for a cell of two phases mid, VECTOR vec4f each.
// The step index counts chunks of sizes.chunk steps, from step sizes.first to sizes.steps. Joined with one of
// operand/by_* and generated
// `multiply(phase, at)`, which adds to sums what `held` and the exchange from `at` on make.

const THREADS = GROUP * LANES;

var<workgroup> parts: array<f32, PARTS>;
// [quad][gate]
var<private> held: array<vec4f, HELD_LEN>;
var<private> sums: array<vec4f, GATES>;

// Where h before the step is, in vec4f.
fn slot_of(step: u32) -> u32 {
    return (step & PARITY) * VECTOR;
}

fn weight_at(direction: u32, g: u32, unit: u32, k: u32) -> f32 {
    if unit >= sizes.hidden || k >= sizes.hidden { return 0.0; }
    return load_params(sizes.weight + direction * sizes.param_stride + (g * sizes.hidden + unit) * sizes.hidden + k);
}

// In one loop, too long to be unrolled on a CPU adapter, where so many loads would take seconds to compile.
fn hold_weights(direction: u32, unit: u32, lane: u32) {
    for (var i = 0u; i < HELD_LEN; i++) {
        let g = i % GATES;
        let k = 4u * (lane * QUADS + i / GATES);
        held[i] = vec4f(
            weight_at(direction, g, unit, k), weight_at(direction, g, unit, k + 1u),
            weight_at(direction, g, unit, k + 2u), weight_at(direction, g, unit, k + 3u),
        );
    }
}

// Gives h after the step, or what it was.
fn run_phase(step: u32, phase: u32, first: u32, count: u32, direction: u32, b: u32, thread: u32, fixed: Fixed, h: f32) -> f32 {
    let lane = thread / GROUP;
    let unit = thread % GROUP;
    let finishes = thread < sizes.hidden;
    // Asked for now, so that it is there when the products are.
    var x = Before();
    if finishes { x = before(step, direction, b, unit, h); }

    for (var g = first; g < first + count; g++) { sums[g] = vec4f(); }
    multiply(phase, select(slot_of(step), (1u + PARITY) * VECTOR, phase == 2u) + lane * QUADS);
    let cut = phase != 2u && enters_cut(direction, time_of(step, direction), b);
    var products = Gates();
    for (var g = first; g < first + count; g++) { products[g] = select(dot(sums[g], vec4f(1.0)), 0.0, cut); }
    if LANES > 1u {
        if lane > 0u {
            for (var g = first; g < first + count; g++) { parts[((lane - 1u) * GATES + g) * GROUP + unit] = products[g]; }
        }
        workgroupBarrier();
        if finishes {
            for (var l = 0u; l < LANES - 1u; l++) {
                for (var g = first; g < first + count; g++) { products[g] += parts[(l * GATES + g) * GROUP + unit]; }
            }
        }
    }
    var after = h;
    if finishes {
        let made = finish(step, phase, first, count, direction, b, unit, products, fixed, x);
        if phase == 1u {
            put(4u * (1u + PARITY) * VECTOR + unit, made);
        } else {
            put(4u * slot_of(step + 1u) + unit, made);
            after = made;
        }
    }
    workgroupBarrier();
    return after;
}

@compute @workgroup_size(THREADS)
fn resident_registers_forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let direction = group.z;
    let unit = thread % GROUP;
    let finishes = thread < sizes.hidden;
    let start = sizes.first + step_index.value * sizes.chunk;
    let end = min(sizes.steps, start + sizes.chunk);
    prepare_take();
    hold_weights(direction, unit, thread / GROUP);
    var fixed = Fixed();
    if finishes { fixed = fixed_of(direction, unit); }
    for (var k = thread; k < 4u * EXCHANGE; k += THREADS) { put(k, 0.0); }
    workgroupBarrier();

    let row_end = min(sizes.batch, (group.y + 1u) * sizes.group_rows);
    for (var b = group.y * sizes.group_rows; b < row_end; b++) {
        restore(STATES + 1u, 0u, direction, b, thread, THREADS);
        var h = 0.0;
        if finishes {
            h = state[h_index(start, direction, b, unit)];
            put(4u * slot_of(start) + unit, h);
        }
        workgroupBarrier();
        for (var step = start; step < end; step++) {
            if FIRST_PHASE_GATES == GATES {
                h = run_phase(step, 0u, 0u, GATES, direction, b, thread, fixed, h);
            } else {
                h = run_phase(step, 1u, 0u, FIRST_PHASE_GATES, direction, b, thread, fixed, h);
                h = run_phase(step, 2u, FIRST_PHASE_GATES, GATES - FIRST_PHASE_GATES, direction, b, thread, fixed, h);
            }
        }
        if finishes && end < sizes.seq_len { state[h_index(end, direction, b, unit)] = h; }
    }
}
