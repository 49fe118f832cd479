// A link tells of a step where the states come from that enter it: 0 from a cut edge, 1 from the call's start, t + 2 from step t, the
// last that was computed. Its highest bit is set where the step is held. Without holds all links are 0.

const FROM_CUT = 0u;
const FROM_START = 1u;
const FROM_STEP = 2u;
const HELD = 0x80000000u;

fn is_held(link: u32) -> bool {
    return link >= HELD;
}

// Whether a held step puts out what the last step did that was computed.
fn repeats(link: u32) -> bool {
    return sizes.has_hold == 1u && link >= HELD + FROM_STEP;
}
