// How a sequence is walked. Shared by the kernels that do; edge e lies between steps e−1 and e.

fn runs_back(direction: u32) -> bool {
    return direction + sizes.reverse == 1u;
}

fn row_of(t: u32, b: u32) -> u32 {
    return t * sizes.row_t + b * sizes.row_b;
}
