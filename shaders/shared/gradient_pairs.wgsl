// needs: shared/powers shared/team
// Gates' gradients on their way between workgroups as f16, two gates of a unit in a word. A power of two brings them into the range of
// f16: `gradient_range` has left the largest of what enters the steps in `control`.

const RANGE = 5u;
const PAIRS = (GATES + 1u) / 2u;
// What the largest becomes, at least: it may still grow by 2^13, and what is 2^-16 of it has all digits.
const LARGEST_EXPONENT = 2;

// Bits of that power of two.
fn gradient_scale() -> u32 {
    return power_for(atomicLoad(&control[RANGE]), LARGEST_EXPONENT);
}

// The power of two of this dispatch.
var<private> sent_scale: f32;

// As `fail`, but no workgroup waited in vain: status counts it once more, apart.
fn outgrow() {
    if atomicExchange(&control[FAILED], 1u) == 0u {
        atomicStore(&control[REPAIR], 1u);
        if sizes.has_status == 1u {
            atomicAdd(&status[1], 1u);
            atomicAdd(&status[3], 1u);
        }
    }
}

// Fails where f16 would make infinity of a number: the repair makes the chunk in f32.
fn scaled(value: f32) -> f32 {
    let result = value * sent_scale;
    if is_finite(value) && (bitcast<u32>(result) & 0x7fffffffu) >= 0x477ff000u { outgrow(); }
    return result;
}

// exchange: [chunk, D, B, pairs of gates, H].
fn pair_index(step: u32, direction: u32, b: u32, pair: u32) -> u32 {
    let of_chunk = step - step_index.value * sizes.chunk;
    return (((of_chunk * sizes.directions + direction) * sizes.batch + b) * PAIRS + pair) * sizes.hidden;
}

fn send_pair(step: u32, direction: u32, b: u32, gate: u32, unit: u32, first: f32, second: f32) {
    let pair = vec2f(scaled(first), select(scaled(second), 0.0, gate + 1u == GATES));
    atomicStore(&exchange[pair_index(step, direction, b, gate / 2u) + unit], encode_halves(pair));
}

// Number k, in the order of the exchange, of what the step before sent, at the start of a chunk.
fn scaled_before(step: u32, direction: u32, b: u32, k: u32) -> f32 {
    let gate = k / 2u / sizes.hidden * 2u + k % 2u;
    if gate >= GATES { return 0.0; }
    return scaled(gradient_before(step, direction, b, gate * sizes.hidden + k / 2u % sizes.hidden));
}
