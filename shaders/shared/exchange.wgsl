// How the workgroups of a persistent dispatch work together. Shared by both directions of time.
//
// A value goes from one workgroup to the others as a word of `exchange` that is 0 until the value is there: data and ready
// mark are one, so relaxed atomics do. Nothing promises that all workgroups run side by side, so every wait is bounded; the
// first that is in vain sets `control`, whose first three words are the grid of the repair that follows, 0 until then.
// status counts the dispatches, and those that failed.

const REPAIR = 0u;
const FAILED = 3u;
const ARRIVED = 4u;

const THREADS = UNITS * LANES;

var<workgroup> stuck: u32;

fn encode(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    // This NaN's successor would be 0: another NaN takes its place.
    return select(bits, 0x7FC00000u, bits == 0xFFFFFFFFu) + 1u;
}

fn decode(word: u32) -> f32 {
    return bitcast<f32>(word - 1u);
}

fn encode_halves(values: vec2f) -> u32 {
    let bits = pack2x16float(values);
    // As above: two NaN.
    return select(bits, 0x7E007E00u, bits == 0xFFFFFFFFu) + 1u;
}

// This thread's waiting was in vain once; it does not wait again.
var<private> gave_up: bool;

// 0 if it never came.
fn await_word(at: u32) -> u32 {
    if gave_up { return 0u; }
    for (var polls = 1u; polls <= sizes.spin_limit; polls++) {
        let word = atomicLoad(&exchange[at]);
        if word != 0u { return word; }
        if polls % 256u == 0u && atomicLoad(&control[FAILED]) != 0u { break; }
    }
    gave_up = true;
    return 0u;
}

// A value that another member publishes; if it never comes, the workgroup is stuck.
fn await_value(at: u32) -> f32 {
    let word = await_word(at);
    if word == 0u {
        stuck = 1u;
        return 0.0;
    }
    return decode(word);
}

// Two of them in one word.
fn await_halves(at: u32) -> vec2f {
    let word = await_word(at);
    if word == 0u {
        stuck = 1u;
        return vec2f();
    }
    return unpack2x16float(word - 1u);
}

fn fail() {
    if atomicExchange(&control[FAILED], 1u) == 0u {
        atomicStore(&control[REPAIR], 1u);
        if sizes.has_status == 1u { atomicAdd(&status[1], 1u); }
    }
}

// The barrier before staged operands are used. Whether all of them came.
fn all_came(thread: u32) -> bool {
    if workgroupUniformLoad(&stuck) == 0u { return true; }
    if thread == 0u { fail(); }
    return false;
}

// Whether all workgroups of the dispatch run at the same time.
fn roll_call(thread: u32, first: bool, workgroups: u32) -> bool {
    if thread == 0u {
        stuck = 1u;
        if first && sizes.has_status == 1u { atomicAdd(&status[0], 1u); }
        atomicAdd(&control[ARRIVED], 1u);
        for (var polls = 1u; polls <= sizes.spin_limit; polls++) {
            if atomicLoad(&control[ARRIVED]) == workgroups {
                // Others may have given up before the last came.
                stuck = atomicLoad(&control[FAILED]);
                break;
            }
            if polls % 256u == 0u && atomicLoad(&control[FAILED]) != 0u { break; }
        }
    }
    return all_came(thread);
}
