// needs: shared/step_backward
// One phase of a step of BPTT for all rows and directions, once the product over all rows is there: in the state from `part` on,
// sizes.splits parts of it, each [D, B, H]. Leaves the gates' gradients for the next product from `sent` on: [D, B, GATES·H].

fn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {
    state[sizes.sent + (direction * sizes.batch + b) * GATES * sizes.hidden + gate_row] = value;
}

@compute @workgroup_size(64)
fn batched_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let step = step_index.value;
    let total = sizes.directions * sizes.batch * sizes.hidden;
    for (var i = id.x; i < total; i += groups.x * 64u) {
        // Nothing was sent before the first step.
        var product = 0.0;
        if PHASE == 2u || step > 0u {
            for (var split = 0u; split < sizes.splits; split++) { product += state[sizes.part + split * total + i]; }
        }
        let unit = i % sizes.hidden;
        let b = i / sizes.hidden % sizes.batch;
        let direction = i / sizes.hidden / sizes.batch;
        finish(step, PHASE, direction, b, 0u, unit, product, before(step, direction, b, unit));
    }
}
