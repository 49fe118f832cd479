// needs: shared/holds
// Links as `pack_hold` left them: the mask holds them behind lengths [B] and resets [T, B], [D, T, B].

fn link_index(direction: u32, t: u32, b: u32) -> u32 {
    return sizes.batch + (1u + direction) * sizes.rows + t * sizes.batch + b;
}

fn link_of(direction: u32, t: u32, b: u32) -> u32 {
    if sizes.has_hold == 0u { return 0u; }
    return mask[link_index(direction, t, b)];
}
