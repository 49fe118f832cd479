// NaN and infinities. WGSL lets drivers assume that there are none, and clamp, min and max may drop a NaN, so they are told by their bits.

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// Bits of its magnitude, in the order of the numbers; 0 of what is not finite.
fn magnitude(x: f32) -> u32 {
    return select(0u, bitcast<u32>(x) & 0x7fffffffu, is_finite(x));
}

// clamp that lets a NaN through.
fn bounded(x: f32, low: f32, high: f32) -> f32 {
    return select(clamp(x, low, high), x, is_nan(x));
}

// Two f16 in a word, rounded to nearest: pack2x16float leaves open what becomes of numbers that f16 cannot hold.
fn halves_of(values: vec2f) -> u32 {
    let bits = bitcast<vec2u>(values);
    let magnitude = bits & vec2u(0x7fffffffu);
    // From 65,520 on, halfway to what would come after 65,504, numbers round to infinity.
    let beyond = magnitude >= vec2u(0x477ff000u);
    let infinite_or_nan = select(vec2u(0x7c00u), vec2u(0x7e00u), magnitude > vec2u(0x7f800000u));
    let special = ((bits >> vec2u(16u)) & vec2u(0x8000u)) | infinite_or_nan;
    let packed = pack2x16float(select(values, vec2f(), beyond));
    let halves = select(vec2u(packed & 0xffffu, packed >> 16u), special, beyond);
    return halves.x | (halves.y << 16u);
}
