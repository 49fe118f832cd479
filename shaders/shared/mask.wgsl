// needs: shared/links
// Lengths of rows and cut edges, as `pack` left them: the mask holds lengths [B], then resets [T, B], then
// links.

fn length_of(b: u32) -> u32 {
    return mask[b];
}

// A reset past the row's length cuts nothing.
fn is_cut(edge: u32, b: u32) -> bool {
    return sizes.has_reset == 1u && edge < mask[b] && mask[sizes.batch + edge * sizes.batch + b] != 0u;
}
