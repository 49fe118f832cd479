// Where backward finds the states around a step, and which edges between steps are cut. Shared by the kernels that walk
// a sequence. Edge e lies between steps e−1 and e.

fn runs_back(direction: u32) -> bool {
    return direction + sizes.reverse == 1u;
}

fn row_of(t: u32, b: u32) -> u32 {
    return t * sizes.row_t + b * sizes.row_b;
}

// A reset past the row's length cuts nothing.
fn is_cut(edge: u32, b: u32) -> bool {
    return sizes.has_reset == 1u && edge < marks[b] && marks[sizes.batch + edge * sizes.batch + b] != 0u;
}
