// needs: shared/step_backward shared/team
// A whole chunk of BPTT in one dispatch of teams of workgroups. A team walks all steps for sizes.team_rows batch rows of one direction;
// each of its sizes.members members makes some hidden units of them. The entry point is generated for a layout: see
// src/schedule/persistent/backward.rs.
//
// The gates' gradients go to the other members through `exchange` [chunk, D, B, G·H]; `state` is read and written by the unit's own
// thread only. The step index counts chunks of sizes.chunk steps.

fn exchange_index(step: u32, direction: u32, b: u32, gate_row: u32) -> u32 {
    let of_chunk = step - step_index.value * sizes.chunk;
    return ((of_chunk * sizes.directions + direction) * sizes.batch + b) * GATES * sizes.hidden + gate_row;
}

fn publish(step: u32, direction: u32, b: u32, r: u32, gate_row: u32, value: f32) {
    atomicStore(&exchange[exchange_index(step, direction, b, gate_row)], encode(value));
}

// What the step before sent, at the start of a chunk.
fn gradient_before(step: u32, direction: u32, b: u32, gate_row: u32) -> f32 {
    let row = row_of(time_before(step, direction), b);
    return d_gates[sizes.d_rh + gate_index(direction, row, 0u, 0u) + gate_row];
}

// 0 past the end of the gates and for a unit that there is not. Without branches, so that all of a thread's loads are on their way
// at once.
fn weight_at(direction: u32, gate_row: u32, end: u32, unit: u32) -> f32 {
    let valid = (gate_row < end) & (unit < sizes.hidden);
    let at = select(0u, gate_row * sizes.hidden + unit, valid);
    return select(0.0, load_params(sizes.weight + direction * sizes.param_stride + at), valid);
}

fn weights_at(direction: u32, gate_row: u32, end: u32, unit: u32) -> vec4f {
    return vec4f(
        weight_at(direction, gate_row, end, unit),
        weight_at(direction, gate_row + 1u, end, unit),
        weight_at(direction, gate_row + 2u, end, unit),
        weight_at(direction, gate_row + 3u, end, unit),
    );
}

// The same of gates that lie `apart`.
fn weights_apart(direction: u32, gate_row: u32, apart: u32, end: u32, unit: u32) -> vec4f {
    return vec4f(
        weight_at(direction, gate_row, end, unit),
        weight_at(direction, gate_row + apart, end, unit),
        weight_at(direction, gate_row + 2u * apart, end, unit),
        weight_at(direction, gate_row + 3u * apart, end, unit),
    );
}
