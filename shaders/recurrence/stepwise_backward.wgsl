// needs: shared/step_backward
// One step of BPTT for all rows and directions: the gradient of the state from the step after, W_hhᵀ·d_rh, then the cell.
//
// A workgroup has UNITS x LANES threads: UNITS hidden units, LANES threads along K (gate rows) for each, ROWS batch rows.

var<workgroup> operand: array<f32, ROWS * TILE_K>;
var<workgroup> sums: array<f32, LANES * ROWS * UNITS>;

// The next dispatch reads d_gates.
fn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {}

@compute @workgroup_size(UNITS, LANES)
fn stepwise_backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let step = step_index.value;
    let direction = group.z;
    let t_from = select(time_before(step, direction), time_of(step, direction), PHASE == 2u);
    let lane = local.y;
    let unit = group.x * UNITS + local.x;
    let row0 = group.y * ROWS;
    let weight = sizes.weight + direction * sizes.param_stride + FIRST * sizes.hidden * sizes.hidden;
    let has_product = PHASE == 2u || step > 0u;
    let k_total = select(0u, COUNT * sizes.hidden, has_product);

    var acc = array<f32, ROWS>();
    for (var k0 = 0u; k0 < k_total; k0 += TILE_K) {
        for (var i = lane * UNITS + local.x; i < ROWS * TILE_K; i += LANES * UNITS) {
            let b = row0 + i / TILE_K;
            let k = k0 + i % TILE_K;
            var value = 0.0;
            if b < sizes.batch && k < k_total {
                value = d_gates[sizes.d_rh + gate_index(direction, row_of(t_from, b), FIRST, 0u) + k];
            }
            operand[i] = value;
        }
        workgroupBarrier();
        if unit < sizes.hidden {
            let k_end = min(TILE_K, k_total - k0);
            for (var k = lane; k < k_end; k += LANES) {
                let w = load_params(weight + (k0 + k) * sizes.hidden + unit);
                for (var r = 0u; r < ROWS; r++) { acc[r] += w * operand[r * TILE_K + k]; }
            }
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < ROWS; r++) { sums[(lane * ROWS + r) * UNITS + local.x] = acc[r]; }
    workgroupBarrier();

    // The first threads take a unit and row each, so that the others are idle by whole subgroups.
    for (var i = lane * UNITS + local.x; i < UNITS * ROWS; i += UNITS * LANES) {
        let r = i / UNITS;
        let b = row0 + r;
        let u = group.x * UNITS + i % UNITS;
        if u < sizes.hidden && b < sizes.batch {
            var sum = 0.0;
            for (var l = 0u; l < LANES; l++) { sum += sums[l * UNITS * ROWS + i]; }
            finish(step, PHASE, direction, b, r, u, sum, before(step, direction, b, u));
        }
    }
}
