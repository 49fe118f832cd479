// The row of `output` that holds what a direction gave at the last step it processes: PyTorch's h_n of the last layer.

fn last_row(b: u32, direction: u32) -> u32 {
    var length = sizes.seq_len;
    if sizes.has_lengths == 1u { length = clamp(lengths[b], 1u, sizes.seq_len); }
    let runs_back = direction + sizes.reverse == 1u;
    return select(length - 1u, 0u, runs_back) * sizes.row_t + b * sizes.row_b;
}
