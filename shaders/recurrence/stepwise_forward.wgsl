// needs: shared/step_forward
// One step of the recurrence for all rows and directions: rh = W_hh·h + b_hh, then the cell as its epilogue.
//
// A workgroup has LANES x UNITS threads: UNITS hidden units, LANES threads along K for each, and makes COUNT gates from
// gate FIRST on of ROWS batch rows.

var<workgroup> operand: array<f32, ROWS * TILE_K>;
var<workgroup> sums: array<f32, UNITS * COUNT * ROWS * LANES>;

@compute @workgroup_size(LANES, UNITS)
fn stepwise_forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let step = sizes.first + step_index.value;
    let direction = group.z;
    let t = time_of(step, direction);
    let lane = local.x;
    let unit = group.x * UNITS + local.y;
    let row0 = group.y * ROWS;
    let weight = sizes.weight + direction * sizes.param_stride;

    var acc = array<f32, COUNT * ROWS>();
    for (var k0 = 0u; k0 < sizes.hidden; k0 += TILE_K) {
        for (var i = local.y * LANES + lane; i < ROWS * TILE_K; i += LANES * UNITS) {
            let b = row0 + i / TILE_K;
            let k = k0 + i % TILE_K;
            var value = 0.0;
            if b < sizes.batch && k < sizes.hidden {
                if PHASE == 2u {
                    value = state[mid_index(direction, b, k)];
                } else if !enters_cut(direction, t, b) {
                    value = state[h_index(step, direction, b, k)];
                }
            }
            operand[i] = value;
        }
        workgroupBarrier();
        if unit < sizes.hidden {
            let k_end = min(TILE_K, sizes.hidden - k0);
            for (var k = lane; k < k_end; k += LANES) {
                for (var g = 0u; g < COUNT; g++) {
                    let w = load_params(weight + ((FIRST + g) * sizes.hidden + unit) * sizes.hidden + k0 + k);
                    for (var r = 0u; r < ROWS; r++) { acc[g * ROWS + r] += w * operand[r * TILE_K + k]; }
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < COUNT * ROWS; i++) { sums[(local.y * COUNT * ROWS + i) * LANES + lane] = acc[i]; }
    workgroupBarrier();

    // The first threads take a unit and row each, so that the others are idle by whole subgroups.
    for (var i = local.y * LANES + lane; i < UNITS * ROWS; i += UNITS * LANES) {
        let b = row0 + i / UNITS;
        let u = group.x * UNITS + i % UNITS;
        if u < sizes.hidden && b < sizes.batch {
            var products = Gates();
            for (var g = 0u; g < COUNT; g++) {
                let at = ((i % UNITS * COUNT + g) * ROWS + i / UNITS) * LANES;
                for (var l = 0u; l < LANES; l++) { products[FIRST + g] += sums[at + l]; }
            }
            let x = before(step, direction, b, u, state[h_index(step, direction, b, u)]);
            let made = finish(step, PHASE, FIRST, COUNT, direction, b, u, products, fixed_of(direction, u), x);
            let at = select(h_index(step + 1u, direction, b, u), mid_index(direction, b, u), PHASE == 1u);
            state[at] = made;
        }
    }
}
