// Powers of two that bring numbers into the range of f16 and out of it again.

// Bits of the one that gives the number of these bits that exponent, or 1 for 0. It and its inverse are normal numbers.
fn power_for(largest: u32, exponent: i32) -> u32 {
    if largest == 0u { return 0x3f800000u; }
    return u32(clamp(exponent - (i32(largest >> 23u) - 127), -126, 126) + 127) << 23u;
}

// The power of two that undoes it.
fn inverse_of(power: u32) -> f32 {
    return bitcast<f32>(0x7f000000u - power);
}
