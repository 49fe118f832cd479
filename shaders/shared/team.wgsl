// needs: shared/floats
// How the workgroups of a persistent dispatch work together. Shared by both directions of time.
//
// A value goes from one workgroup to the others as a word of `exchange` that is 0 until the value is there: data and ready
// mark are one, so relaxed atomics do. The last word of `exchange` is never 0: who has no word to wait for reads that one.
//
// Nothing promises that all workgroups run side by side, so every wait is bounded. The first that times out sets `control`, whose
// first three words are the grid of the repair that follows, 0 until then. No thread leaves early: it goes on to the end with what
// it has and waits no more. status counts the dispatches, those that failed, and the most
// workgroups that answered a roll call that failed.

const REPAIR = 0u;
const FAILED = 3u;
const ARRIVED = 4u;

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
    let bits = halves_of(values);
    // As above: two NaN.
    return select(bits, 0x7E007E00u, bits == 0xFFFFFFFFu) + 1u;
}

fn decode_halves(word: u32) -> vec2f {
    return unpack2x16float(word - 1u);
}

fn fail() {
    if atomicExchange(&control[FAILED], 1u) == 0u {
        atomicStore(&control[REPAIR], 1u);
        if sizes.has_status == 1u { atomicAdd(&status[1], 1u); }
    }
}

// Whether a wait timed out after this many polls; the other workgroups then learn of it.
fn in_vain(polls: u32) -> bool {
    if polls > sizes.spin_limit {
        fail();
        return true;
    }
    return polls % 256u == 0u && atomicLoad(&control[FAILED]) != 0u;
}

// Whether all workgroups of the dispatch run at the same time. If not, the workgroup may return: nothing has been written yet.
fn roll_call(thread: u32, first: bool, workgroups: u32) -> bool {
    if thread == 0u {
        stuck = 1u;
        if first && sizes.has_status == 1u { atomicAdd(&status[0], 1u); }
        atomicAdd(&control[ARRIVED], 1u);
        for (var polls = 1u; polls <= sizes.call_limit; polls++) {
            if atomicLoad(&control[ARRIVED]) == workgroups {
                // Others may have given up before the last came.
                stuck = atomicLoad(&control[FAILED]);
                break;
            }
            if polls % 256u == 0u && atomicLoad(&control[FAILED]) != 0u { break; }
        }
        if stuck != 0u {
            // So many run side by side.
            if sizes.has_status == 1u { atomicMax(&status[2], atomicLoad(&control[ARRIVED])); }
            fail();
        }
    }
    return workgroupUniformLoad(&stuck) == 0u;
}
