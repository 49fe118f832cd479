// needs: shared/step_forward
// One phase of a step of the recurrence for all rows and directions, once the product over all rows is there: in the state from
// `part` on, sizes.splits parts of it, each [D, B, GATES·H], whose gates from FIRST on are new. Leaves in `operand` [D, B, H] what
// the next product multiplies: mid, or h after the step, 0 where a cut edge follows. Phase 3 does only that, before the first step.

fn product_at(direction: u32, b: u32, gate: u32, unit: u32) -> f32 {
    let rows = sizes.directions * sizes.batch;
    let at = sizes.part + ((direction * sizes.batch + b) * GATES + gate) * sizes.hidden + unit;
    var sum = 0.0;
    for (var split = 0u; split < sizes.splits; split++) { sum += state[at + split * rows * GATES * sizes.hidden]; }
    return sum;
}

@compute @workgroup_size(64)
fn batched_forward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    let total = sizes.directions * sizes.batch * sizes.hidden;
    for (var i = id.x; i < total; i += groups.x * 64u) {
        run(sizes.first + step_index.value, i / sizes.hidden / sizes.batch, i / sizes.hidden % sizes.batch, i % sizes.hidden, i);
    }
}

fn run(step: u32, direction: u32, b: u32, unit: u32, at: u32) {
    let h = state[h_index(step, direction, b, unit)];
    if PHASE == 3u {
        store_operand(at, select(h, 0.0, enters_cut(direction, time_of(step, direction), b)));
        return;
    }
    var products = Gates();
    for (var g = FIRST; g < FIRST + COUNT; g++) { products[g] = product_at(direction, b, g, unit); }
    let x = before(step, direction, b, unit, h);
    let made = finish(step, PHASE, FIRST, COUNT, direction, b, unit, products, fixed_of(direction, unit), x);
    if PHASE == 1u {
        store_operand(at, made);
        return;
    }
    state[h_index(step + 1u, direction, b, unit)] = made;
    if step + 1u < sizes.seq_len {
        store_operand(at, select(made, 0.0, enters_cut(direction, time_of(step + 1u, direction), b)));
    }
}
