// One step of a stream (T = 1, inference): the products with the input and with h, and the cell in their epilogue, for the
// layers from sizes.layer_start on. If there is more than one, a workgroup makes all units of its rows, so that nothing but its
// own barriers orders the layers; else group.x counts slices of units, and the layers are dispatches of their own.
//
// A workgroup has UNITS x LANES threads: UNITS units at a time, LANES threads along K for each, ROWS batch rows. A cell of two
// phases makes mid in phase 1 (0 is that of a cell of one) and leaves it, its wx and its first gates' rh in `scratch`:
// the outputs of a layer below (in place, of any) [2, B, D·H] by layer parity, then by unit of [D, B, H] mid, wx [GATES], rh [FIRST_PHASE_GATES].
// Joined with operand/weights_by_four or operand/weights_by_one.

const THREADS = UNITS * LANES;
const KEPT = 1u + GATES + FIRST_PHASE_GATES;

var<workgroup> operand: array<vec4f, ROWS * TILE_QUADS>;
var<workgroup> sums: array<f32, GATES * ROWS * THREADS>;

// At a single step the reverse direction enters by its end, which no reset cuts. Lengths can only be 1.
fn is_cut(direction: u32, b: u32) -> bool {
    return direction + sizes.reverse == 0u && sizes.has_reset == 1u && reset[b] != 0u;
}

fn state_index(s: u32, layer: u32, direction: u32, b: u32, unit: u32) -> u32 {
    return (((s * sizes.layers + layer) * sizes.directions + direction) * sizes.batch + b) * sizes.hidden + unit;
}

fn initial(s: u32, layer: u32, direction: u32, b: u32, unit: u32) -> f32 {
    let at = state_index(s, layer, direction, b, unit);
    if IN_PLACE == 1u { return final_state[at]; }
    if sizes.has_initial == 0u { return 0.0; }
    return initial_state[at];
}

fn columns_of(layer: u32) -> u32 {
    return select(sizes.directions * sizes.hidden, sizes.input, layer == 0u);
}

// Where the parameters of a layer and direction begin; all layers but the first have equal blocks.
fn block_of(layer: u32, direction: u32) -> u32 {
    if layer == 0u { return direction * sizes.first_len; }
    return sizes.directions * sizes.first_len + ((layer - 1u) * sizes.directions + direction) * sizes.other_len;
}

fn inner_index(layer: u32, b: u32, column: u32) -> u32 {
    return ((layer & 1u) * sizes.batch + b) * sizes.directions * sizes.hidden + column;
}

fn kept_index(direction: u32, b: u32, unit: u32) -> u32 {
    let inner = 2u * sizes.batch * sizes.directions * sizes.hidden;
    return inner + ((direction * sizes.batch + b) * sizes.hidden + unit) * KEPT;
}

const INPUT = 0u;
const H = 1u;
const MID = 2u;

fn operand_at(layer: u32, direction: u32, source: u32, b: u32, k: u32) -> f32 {
    if source == MID { return scratch[kept_index(direction, b, k)]; }
    if source == H {
        if is_cut(direction, b) { return 0.0; }
        return initial(0u, layer, direction, b, k);
    }
    if layer == 0u { return load_input(b * sizes.input + k); }
    return scratch[inner_index(layer - 1u, b, k)];
}

// Products of the gates from `first` on with the operand. Thread u + r·UNITS then finds those of unit u and row r.
fn products(
    layer: u32, direction: u32, source: u32, first: u32, count: u32, row0: u32, unit0: u32, thread: u32,
) -> Gates {
    let lane = thread / UNITS;
    let unit = unit0 + thread % UNITS;
    let columns = select(sizes.hidden, columns_of(layer), source == INPUT);
    let weights = block_of(layer, direction)
        + select(GATES * sizes.hidden * columns_of(layer), 0u, source == INPUT);
    var acc = array<f32, GATES * ROWS>();
    for (var k0 = 0u; k0 < columns; k0 += 4u * TILE_QUADS) {
        // The operand and the sums of the products before are free.
        workgroupBarrier();
        for (var i = thread; i < ROWS * TILE_QUADS; i += THREADS) {
            let b = row0 + i / TILE_QUADS;
            let k = k0 + 4u * (i % TILE_QUADS);
            var values = vec4f();
            if b < sizes.batch {
                for (var j = 0u; j < 4u; j++) {
                    if k + j < columns { values[j] = operand_at(layer, direction, source, b, k + j); }
                }
            }
            operand[i] = values;
        }
        workgroupBarrier();
        if unit < sizes.hidden {
            let end = min(4u * TILE_QUADS, columns - k0);
            for (var k = 4u * lane; k < end; k += 4u * LANES) {
                for (var g = first; g < first + count; g++) {
                    let w = quad(weights + (g * sizes.hidden + unit) * columns + k0 + k, columns - k0 - k);
                    for (var r = 0u; r < ROWS; r++) { acc[g * ROWS + r] += dot(w, operand[r * TILE_QUADS + k / 4u]); }
                }
            }
        }
    }
    for (var i = first * ROWS; i < (first + count) * ROWS; i++) { sums[i * THREADS + thread] = acc[i]; }
    workgroupBarrier();
    var totals = Gates();
    if thread < UNITS * ROWS {
        for (var g = first; g < first + count; g++) {
            let at = (g * ROWS + thread / UNITS) * THREADS + thread % UNITS;
            for (var l = 0u; l < LANES; l++) { totals[g] += sums[at + l * UNITS]; }
        }
    }
    return totals;
}

fn finish(layer: u32, phase: u32, direction: u32, b: u32, unit: u32, wx_products: Gates, rh_products: Gates) {
    let first = select(0u, FIRST_PHASE_GATES, phase == 2u);
    let end = select(FIRST_PHASE_GATES, GATES, phase == 2u);
    let block = block_of(layer, direction);
    let bias = block + GATES * sizes.hidden * (columns_of(layer) + sizes.hidden) + unit;
    let per_unit = bias + sizes.has_bias * 2u * GATES * sizes.hidden;
    let kept = kept_index(direction, b, unit);
    var wx = wx_products;
    var rh = rh_products;
    for (var g = 0u; g < GATES; g++) {
        if phase == 2u {
            wx[g] = scratch[kept + 1u + g];
            if g < first { rh[g] = scratch[kept + 1u + GATES + g]; }
        } else if sizes.has_bias == 1u {
            wx[g] += load_params(bias + g * sizes.hidden);
        }
        if sizes.has_bias == 1u && g >= first && g < end { rh[g] += load_params(bias + (GATES + g) * sizes.hidden); }
    }
    var of_unit = Unit();
    for (var i = 0u; i < UNIT_ROWS; i++) { of_unit[i] = load_params(per_unit + i * sizes.hidden); }
    var held = State();
    for (var s = 0u; s < STATES; s++) { held[s] = initial(s, layer, direction, b, unit); }
    var prev = held;
    if is_cut(direction, b) { prev = State(); }

    if phase == 1u {
        scratch[kept] = cell_mid(wx, rh, prev, of_unit);
        for (var g = 0u; g < GATES; g++) {
            scratch[kept + 1u + g] = wx[g];
            if g < end { scratch[kept + 1u + GATES + g] = rh[g]; }
        }
        return;
    }
    var next = cell_forward(wx, rh, prev, of_unit).next;
    let column = direction * sizes.hidden + unit;
    if layer + 1u == sizes.layers {
        store_output(b * sizes.directions * sizes.hidden + column, next[0]);
    }
    if layer + 1u < sizes.layers || IN_PLACE == 1u { scratch[inner_index(layer, b, column)] = next[0]; }
    if sizes.has_final == 1u {
        // In place, other units still need the h that was.
        for (var s = IN_PLACE; s < STATES; s++) { final_state[state_index(s, layer, direction, b, unit)] = next[s]; }
    }
}

// Brings the h that a layer has put out to the state.
fn update_in_place(layer: u32, row0: u32, thread: u32) {
    let columns = sizes.directions * sizes.hidden;
    for (var i = thread; i < min(ROWS, sizes.batch - row0) * columns; i += THREADS) {
        let b = row0 + i / columns;
        let column = i % columns;
        let at = state_index(0u, layer, column / sizes.hidden, b, column % sizes.hidden);
        final_state[at] = scratch[inner_index(layer, b, column)];
    }
}

fn run_phase(layer: u32, phase: u32, direction: u32, row0: u32, unit0: u32, thread: u32) {
    var wx = Gates();
    var rh = Gates();
    if phase == 2u {
        rh = products(layer, direction, MID, FIRST_PHASE_GATES, GATES - FIRST_PHASE_GATES, row0, unit0, thread);
    } else {
        wx = products(layer, direction, INPUT, 0u, GATES, row0, unit0, thread);
        rh = products(layer, direction, H, 0u, FIRST_PHASE_GATES, row0, unit0, thread);
    }
    let b = row0 + thread / UNITS;
    let unit = unit0 + thread % UNITS;
    if thread < UNITS * ROWS && unit < sizes.hidden && b < sizes.batch { finish(layer, phase, direction, b, unit, wx, rh); }
}

@compute @workgroup_size(THREADS)
fn single_step_fused_forward(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let row0 = group.y * ROWS;
    for (var layer = sizes.layer_start; layer < sizes.layer_end; layer++) {
        for (var phase = sizes.phase_start; phase < sizes.phase_end; phase++) {
            for (var direction = group.z; direction < sizes.directions; direction += groups.z) {
                for (var unit0 = group.x * UNITS; unit0 < sizes.hidden; unit0 += groups.x * UNITS) {
                    run_phase(layer, phase, direction, row0, unit0, thread);
                }
            }
            storageBarrier();
            workgroupBarrier();
        }
        if IN_PLACE == 1u { update_in_place(layer, row0, thread); }
    }
}
