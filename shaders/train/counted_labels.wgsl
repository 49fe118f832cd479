// Whether a row of a classification counts: its label is a class, and the mask lets it.
fn is_counted(row: u32) -> bool {
    return targets[row] < sizes.features && (sizes.has_mask == 0u || mask[row] != 0u);
}
