// Whether a row of a regression counts: the mask lets it.
fn is_counted(row: u32) -> bool {
    return sizes.has_mask == 0u || mask[row] != 0u;
}
